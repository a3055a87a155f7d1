-- Sums by the totals and the dimensions of visits.
INSERT INTO rollups
(
    seal, site, segment, dim, span, day, hour, key,
    visitors, visits, pageviews, events, views, entries, bounces, duration_ms, exits
)
SELECT
    {seal:UInt64}, site, 0, [{{range $i, $d := .}}{{if $i}}, {{end}}'{{$d.Dim}}'{{end}}][i] AS dim, 'day', day, 0, key,
    countIf(alone) + uniqExactIf(who, NOT alone), count() AS n, sum(pageviews) AS views, sum(events),
    views, n, countIf(bounced), sum(duration_ms), n
FROM visits
ARRAY JOIN
    [{{range $i, $d := .}}{{if $i}}, {{end}}{{$d.Key}}{{end}}] AS key,
    range(1, {{len .}} + 1) AS i
WHERE seal = {seal:UInt64} AND {{template "rolled"}}
GROUP BY site, day, i, key
