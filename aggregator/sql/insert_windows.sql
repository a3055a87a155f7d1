INSERT INTO windows
(
    site, second, part, pageviews, visitors, events, active, version
)
