{{- /* Seals days of a site as the sealer does, in the plainest way. Statements end with a semicolon. */ -}}
{{- $site := .Site}}{{$own := printf "site = '%s' AND seal = %d" .Site .Seal -}}
INSERT INTO marks (site, day, n) SELECT '{{.Site}}', toDate(arrayJoin([{{.Days}}])), 1;
INSERT INTO hits (seal, {{.Hits}}, {{.OfVisits}})
SELECT {{.Seal}}, {{.Hits}}, {{.OfVisits}} FROM ({{.Fold}})
SETTINGS enable_named_columns_in_function_tuple = 1;
INSERT INTO visits (seal, site, day, who, visit, alone, start, utc_offset, pageviews, events, duration_ms, bounced, entry, exit, {{.OfVisits}})
SELECT seal, site, day, who, visit, any(h.alone), any(h.start), argMin(h.utc_offset, n), any(h.pageviews), count(), any(h.duration_ms), any(h.bounced),
    any(h.entry), any(h.exit){{range .Columns}}, any(h.{{.}}){{end}}
FROM hits AS h WHERE {{$own}} GROUP BY seal, site, day, who, visit;
INSERT INTO names (site, dim, key, value)
SELECT DISTINCT site, v.1, cityHash64(v.2), v.2
FROM
(
    SELECT site, arrayJoin([('page', path), ('name', toString(name)), ('hostname', toString(hostname)){{range .Columns}}, ('{{.}}', toString({{.}})){{end}}]) AS v
    FROM events WHERE site = '{{.Site}}' AND day IN ({{.Days}})
);
{{- range .Spans}}
INSERT INTO rollups (seal, site, segment, dim, span, day, key, visitors, visits, pageviews, events, views, entries, bounces, duration_ms)
SELECT {{$.Seal}}, site, 0, d.1 AS dim, '{{.}}', {{if eq . "month"}}toStartOfMonth(day){{else}}day{{end}} AS of, d.2 AS key, uniqExact((day, who)), count(),
    sum(v.pageviews), sum(v.events), sum(v.pageviews), count(), countIf(bounced), sum(v.duration_ms)
FROM
(
    SELECT *, arrayJoin([('', toUInt64(0)), ('entry_page', entry), ('exit_page', exit)
        {{- range $.Columns}}, ('{{.}}', {{if eq . "referrer"}}referrer{{else}}cityHash64(toString({{.}})){{end}}){{end}}]) AS d
    FROM visits WHERE {{$own}}
) AS v
GROUP BY site, dim, of, key;
INSERT INTO rollups (seal, site, segment, dim, span, day, key, visitors, visits, pageviews, events, views, entries, bounces, duration_ms, engaged_ms,
    engaged_visits, scroll_depth, scrolled_visits, exits)
SELECT {{$.Seal}}, site, 0, dim, '{{.}}', {{if eq . "month"}}toStartOfMonth(day){{else}}day{{end}} AS of, key, uniqExact((day, who)), count(), sum(p), sum(e),
    sum(all), countIf(at), countIf(at AND b), sumIf(ms, at), sum(engaged), countIf(engaged > 0), sum(depth), countIf(depth > 0), countIf(key = exit)
FROM
(
    SELECT site, day, d.1 AS dim, d.2 AS key, who, visit, countIf(kind = 'pageview') AS p, count() AS e, any(h.pageviews) AS all,
        dim != 'page' OR key = any(h.entry) AS at, any(h.exit) AS exit, any(h.bounced) AS b, any(h.duration_ms) AS ms, sum(h.engaged_ms) AS engaged,
        max(h.scroll_depth) AS depth
    FROM (SELECT *, arrayJoin([('page', page), ('name', cityHash64(name)), ('hostname', cityHash64(hostname))]) AS d FROM hits WHERE {{$own}}) AS h
    GROUP BY site, day, dim, key, who, visit
)
GROUP BY site, dim, of, key;
{{- end}}
{{- if .Spans}}
INSERT INTO rollups (seal, site, dim, span, day, hour, visitors, visits, pageviews, events, views, entries, bounces, duration_ms)
SELECT {{.Seal}}, site, '', 'hour', day, hour, sum(a), sum(b), sum(c), sum(d), sum(e), sum(b), sum(f), sum(g)
FROM
(
    SELECT site, day, toHour(ts + toIntervalSecond(utc_offset)) AS hour, uniqExact(who) AS a, 0 AS b, countIf(kind = 'pageview') AS c, count() AS d,
        0 AS e, 0 AS f, 0 AS g
    FROM hits WHERE {{$own}} GROUP BY site, day, hour
    UNION ALL
    SELECT site, day, toHour(start + toIntervalSecond(utc_offset)) AS hour, 0, count(), 0, 0, sum(pageviews), countIf(bounced), sum(duration_ms)
    FROM visits WHERE {{$own}} GROUP BY site, day, hour
)
GROUP BY site, day, hour;
{{- end}}
INSERT INTO seals (site, day, seal, marks, rules, rolled, monthly, version)
SELECT site, day, {{.Seal}}, sum(n), {{.Rules}}, {{.Rolled}}, {{.Monthly}}, toUnixTimestamp64Micro(now64(6))
FROM marks WHERE site = '{{.Site}}' AND day IN ({{.Days}}) GROUP BY site, day
