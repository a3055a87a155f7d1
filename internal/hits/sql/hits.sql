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
            {{with .Day}}{{.}} AS {{end}}day,
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, {{with .Offset}}{{.}} AS {{end}}utc_offset, kind, interactive{{range .Columns}}, {{.}}{{end}}))) AS all
        FROM events FINAL
        WHERE {{.Where}}
        GROUP BY site, day, visitor
    ),
    chains AS
    (
        SELECT
            site,
            day,
            visitor,
        {{- if .Numbered}}
            toUInt32(row_number() OVER (PARTITION BY site, day)) AS number,
        {{- end}}
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
            visitor,
        {{- if .Numbered}}
            number,
        {{- end}}
            visit,
            length(chains) = 1 AS alone,
            chain[-1].ts AS last,
        {{- if .Engaged}}
            arrayFilter(g -> g[1].kind != 'engagement', arraySplit(e -> e.kind != 'engagement', chain)) AS groups,
            arrayMap(g -> g[1], groups) AS counted,
        {{- else}}
            arrayFilter(e -> e.kind != 'engagement', chain) AS counted,
        {{- end}}
            arrayFilter(e -> e.kind = 'pageview', counted) AS views,
        {{- if .Next}}
            arrayReverseFill(e -> e.kind = 'pageview', counted) AS nearest,
        {{- end}}
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
{{- if .Visits}}
    f.utc_offset AS utc_offset,
    toUInt32(length(counted)) AS events,
{{- else}}
    toUInt32(n) AS n,
{{- if .Nth}}
    toUInt32(nth) AS nth,
{{- end}}
    e.ts AS ts,
    e.utc_offset AS utc_offset,
    e.kind AS kind,
{{- if .Pages}}
    {{call .Key "e.path"}} AS page,
{{- end}}
{{- if .Next}}
    next,
{{- end}}
{{- if .Engaged}}
    toUInt32(least(4294967295, arraySum(x -> toUInt64(x.engaged_ms), group))) AS engaged_ms,
    arrayMax(x -> x.scroll_depth, group) AS scroll_depth,
{{- end}}
{{- range .Hit}}
    e.{{.}} AS {{.}},
{{- end}}
{{- end}}
{{- range .Visit}}
    {{if eq . "referrer"}}{{call $.Key "f.referrer"}}{{else}}f.{{.}}{{end}} AS {{.}},
{{- end}}
{{- if .Pages}}
    if(empty(views), {{call .Key ""}}, {{call .Key "views[1].path"}}) AS entry,
    if(empty(views), {{call .Key ""}}, {{call .Key "views[-1].path"}}) AS exit,
{{- end}}
    f.ts AS start,
    toUInt32(length(views)) AS pageviews,
    toUInt32(least(4294967295, toUnixTimestamp64Milli(last) - toUnixTimestamp64Milli(f.ts))) AS duration_ms,
    length(views) <= 1 AND NOT arrayExists(e -> e.kind = 'custom' AND e.interactive, counted) AS bounced
FROM visits
{{- if not .Visits}}
ARRAY JOIN
    counted AS e,
{{- if .Engaged}}
    groups AS group,
{{- end}}
{{- if .Nth}}
    arrayEnumerateUniq(arrayMap(e -> if(e.path = '', '(not set)', e.path), counted)) AS nth,
{{- end}}
{{- if .Next}}
    arrayPushBack(arrayPopFront(arrayMap(e -> if(e.kind = 'pageview', {{call .Key "e.path"}}, {{call .Key ""}}), nearest)), {{call .Key ""}}) AS next,
{{- end}}
    arrayEnumerate(counted) AS n
{{- end}}
