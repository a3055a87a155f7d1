{{- /*
Numbers that need to know which events make up a visit: its events are less than 30 minutes apart.

1. visitors: everybody's events in the order of the log. A visitor's id holds for one day in UTC, so with the range's first
   day read from its midnight no visit is cut at its beginning.
2. visits: those chains cut at the pauses. Engagement prolongs a visit, but begins none and is no event of it.
3. rows: for each visit and bucket, what of it falls there. An event is counted in the range and bucket of its own time
   (part 0), the visit in those of its first event (part 1).
*/ -}}
WITH
    visitors AS
    (
        SELECT
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, kind, interactive{{range .Columns}}, {{.}}{{end}}))) AS all
        FROM events FINAL
        WHERE {{template "span" "midnight"}}
        GROUP BY visitor
    ),
    visits AS
    (
        SELECT
            visitor,
            arrayJoin(arraySplit((e, pause) -> pause >= 1800000, all, arrayDifference(arrayMap(e -> toUnixTimestamp64Milli(e.ts), all)))) AS chain,
            arrayFilter(e -> e.kind != 'engagement', chain) AS counted,
            arrayFilter(e -> e.kind = 'pageview', counted) AS views,
            counted[1].ts AS start,
            toUnixTimestamp64Milli(chain[-1].ts) - toUnixTimestamp64Milli(start) AS duration,
            length(views) <= 1 AND NOT arrayExists(e -> e.kind = 'custom' AND e.interactive, counted) AS bounced
        {{- range .VisitColumns}},
            {{.Expression}} AS visit_{{.Column}}
        {{- end}}
        FROM visitors
        WHERE notEmpty(counted)
    ),
    rows AS
    (
        SELECT
        {{- range $i, $d := .Dimensions}}
            {{template "dimension" $d}} AS d{{$i}},
        {{- end}}
            visitor,
            start,
            part,
            countIf(e.kind = 'pageview') AS row_pageviews,
            count() AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        ARRAY JOIN {{.Parts}} AS part
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
            AND (part = 0 OR start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'))
        {{- range .Filters}}
            AND {{template "filter" .}}
        {{- end}}
        GROUP BY {{range $i, $d := .Dimensions}}d{{$i}}, {{end}}visitor, start, part
    )
SELECT
{{- range $i, $d := .Dimensions}}
    d{{$i}},
{{- end}}
{{- range .Metrics}}
    {{template "visit metric" .}} AS {{.}},
{{- end}}
    count() OVER () AS total_rows
FROM rows
{{- template "rows" .}}

{{- define "visit metric" -}}
    {{if eq . "visitors"}}toFloat64(uniqExactIf(visitor, part = 0))
    {{- else if eq . "pageviews"}}toFloat64(sumIf(row_pageviews, part = 0))
    {{- else if eq . "events"}}toFloat64(sumIf(row_events, part = 0))
    {{- else if eq . "visits"}}toFloat64(countIf(part = 1))
    {{- else if eq . "views_per_visit"}}if(countIf(part = 1) = 0, NULL, round(sumIf(visit_views, part = 1) / countIf(part = 1), 2))
    {{- else if eq . "bounce_rate"}}if(countIf(part = 1) = 0, NULL, round(100 * countIf(part = 1 AND visit_bounced) / countIf(part = 1)))
    {{- else if eq . "visit_duration"}}if(countIf(part = 1) = 0, NULL, round(sumIf(visit_ms, part = 1) / countIf(part = 1) / 1000))
    {{- end}}
{{- end}}
