{{- /*
The hits of events: each page view and custom event, with what is known of its visit.

1. visitors: the events of each visitor of a site's day, in the order of the log.
2. chains: their visits, cut at pauses of 30 minutes. Engagement prolongs a visit but starts none, and isn't a hit.
3. visits: each visit as groups of a hit and the engagement that follows it.
*/ -}}
WITH
    visitors AS
    (
        SELECT
            site,
            day,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, utc_offset, kind, interactive, path{{range .Columns}}, {{.}}{{end}}))) AS all
        FROM events FINAL
        WHERE {{.Where}}
        GROUP BY site, day, visitor
    ),
    chains AS
    (
        SELECT
            site,
            day,
            toUInt32(row_number() OVER (PARTITION BY site, day)) AS number,
            arrayFilter(
                c -> arrayExists(e -> e.kind != 'engagement', c),
                arraySplit((e, pause) -> pause >= 1800000, all, arrayDifference(arrayMap(e -> toUnixTimestamp64Milli(e.ts), all)))
            ) AS chains
        FROM visitors
    ),
    visits AS
    (
        SELECT
            site,
            day,
            number,
            visit,
            length(chains) = 1 AS alone,
            chain[-1].ts AS last,
            arrayFilter(g -> g[1].kind != 'engagement', arraySplit(e -> e.kind != 'engagement', chain)) AS groups,
            arrayMap(g -> g[1], groups) AS counted,
            arrayFilter(e -> e.kind = 'pageview', counted) AS views,
            arrayReverseFill(e -> e.kind = 'pageview', counted) AS nearest,
            counted[1] AS f
        FROM chains
        ARRAY JOIN chains AS chain, arrayEnumerate(chains) AS visit
    )
SELECT
    site,
    day,
    {{.Who}} AS who,
    toUInt16(least(visit, 65535)) AS visit,
    alone,
    toUInt32(n) AS n,
    toUInt32(nth) AS nth,
    e.ts AS ts,
    e.utc_offset AS utc_offset,
    e.kind AS kind,
    {{template "key" "e.path"}} AS page,
    next,
{{- if .Engaged}}
    toUInt32(least(4294967295, arraySum(x -> toUInt64(x.engaged_ms), group))) AS engaged_ms,
    arrayMax(x -> x.scroll_depth, group) AS scroll_depth,
{{- end}}
{{- range .HitColumns}}
    e.{{.}} AS {{.}},
{{- end}}
{{- range .VisitColumns}}
    {{if eq . "referrer"}}{{template "key" "f.referrer"}}{{else}}f.{{.}}{{end}} AS {{.}},
{{- end}}
    f.ts AS start,
    toUInt32(length(views)) AS pageviews,
    toUInt32(least(4294967295, toUnixTimestamp64Milli(last) - toUnixTimestamp64Milli(f.ts))) AS duration_ms,
    length(views) <= 1 AND NOT arrayExists(e -> e.kind = 'custom' AND e.interactive, counted) AS bounced,
    if(empty(views), 0, {{template "key" "views[1].path"}}) AS entry,
    if(empty(views), 0, {{template "key" "views[-1].path"}}) AS exit
FROM visits
ARRAY JOIN
    counted AS e,
    groups AS group,
    arrayEnumerate(counted) AS n,
    arrayEnumerateUniq(arrayMap(e -> e.path, counted)) AS nth,
    arrayPushBack(arrayPopFront(arrayMap(e -> if(e.kind = 'pageview', {{template "key" "e.path"}}, 0), nearest)), 0) AS next
{{- define "key"}}cityHash64({{.}}){{end}}
