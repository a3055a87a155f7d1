{{- /*
How many units reach each step. A unit is a visit, or all visits of a visitor's day.

1. visits: the hits of each visit that passes, in order, each with the steps that it fits as bits. Where the steps need not
   follow directly, hits that fit none are left out.
2. units: their hits.
3. reached: for each step the number of the unit's hit that it is reached by; 0 from the first step on that isn't reached.
4. walked: the times of these hits, and the value of the first one.
*/ -}}
WITH
    visits AS
    (
        SELECT
            day,
            who,
            visit,
            arraySort(h -> h.1, groupArray{{if not .Strict}}If{{end}}((n, ts, steps, value){{if not .Strict}}, steps != 0{{end}})) AS hits
        FROM
        (
            SELECT
                day,
                who,
                visit,
                n,
                ts,
                {{or .Passes "1"}} AS passes,
                toUInt8({{range $i, $s := .Steps}}{{if $i}} + {{end}}{{$s.Bit}} * toUInt8({{$s.Fits}}){{end}}) AS steps,
                {{or .Breakdown "''"}} AS value
            FROM ({{.From}})
        )
    {{- if not .Strict}}
        WHERE steps != 0{{if .Passes}} OR passes{{end}}
    {{- end}}
        GROUP BY day, who, visit
        {{- if .Passes}}
        HAVING max(passes)
        {{- end}}
    ),
    units AS
    (
    {{- if .Day}}
        SELECT arrayFlatten(arrayMap(v -> v.2, arraySort(v -> v.1, groupArray((visit, hits))))) AS hits
        FROM visits
        GROUP BY day, who
    {{- else}}
        SELECT hits
        FROM visits
    {{- end}}
    ),
    reached AS
    (
        SELECT
            hits,
            arrayMap(h -> h.3, hits) AS masks,
        {{- if .Strict}}
            {{- /* run1[i]: how many steps from step 1 on the hits from i on fit */}}
            {{- range .Backwards}}
            arrayMap((m, next) -> toUInt8(if(bitTest(m, {{.Index}}), 1 + next, 0)), masks, {{if .Last}}arrayResize(emptyArrayUInt8(), length(masks), toUInt8(0)){{else}}arrayPushBack(arrayPopFront(run{{.Next}}), toUInt8(0)){{end}}) AS run{{.Number}},
            {{- end}}
            arrayMax(run1) AS depth,
            indexOf(run1, depth) AS first,
            arrayMap(i -> first + i, range(depth)) AS at
        {{- else}}
            {{- range .Steps}}
            {{- if eq .Number 1}}
            arrayFirstIndex(m -> bitTest(m, 0), masks) AS at1,
            {{- else}}
            if(at{{.Previous}} = 0, 0, arrayFirstIndex((m, i) -> bitTest(m, {{.Index}}) AND i > at{{.Previous}}, masks, arrayEnumerate(masks))) AS at{{.Number}},
            {{- end}}
            {{- end}}
            arrayFilter(i -> i > 0, [{{range $i, $s := .Steps}}{{if $i}}, {{end}}toUInt64(at{{$s.Number}}){{end}}]) AS at
        {{- end}}
        FROM units
        WHERE notEmpty(hits)
    ),
    walked AS
    (
        SELECT
            arrayMap(i -> toUnixTimestamp64Milli(hits[i].2), at) AS times,
            hits[at[1]].4 AS value
        FROM reached
        WHERE notEmpty(at)
    )
SELECT
    value,
    {{if .Breakdown}}grouping(value) = 1{{else}}true{{end}} AS whole,
    [{{range $i, $s := .Steps}}{{if $i}}, {{end}}countIf(length(times) >= {{$s.Number}}){{end}}] AS reached,
    [{{range $i, $s := .Steps}}{{if $i}}, {{end}}{{if $i}}quantilesExactInclusiveIf(0.5, 0.9)(times[{{$s.Number}}] - times[{{$s.Previous}}], length(times) >= {{$s.Number}}){{else}}[nan, nan]{{end}}{{end}}] AS pauses,
    count() OVER () AS total
FROM walked
GROUP BY {{if .Breakdown}}GROUPING SETS ((value), ()){{else}}value{{end}}
ORDER BY whole DESC, reached[1] DESC, value
LIMIT {{.Limit}}
