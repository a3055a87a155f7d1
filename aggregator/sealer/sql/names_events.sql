-- The strings of pages and referrers, which sealed rows have as keys.
INSERT INTO names (site, dim, key, value)
{{template "names of events"}}
