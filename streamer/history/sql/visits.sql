{{- /*
Metrics and dimensions of visits. The events of a visit are less than 30 minutes apart.

1. visitors: the events of each visitor in the order of the log. A visitor's id is valid for one day in UTC, so reading the
   first day of the range from its midnight cuts no visit at its start.
2. visits: these chains, cut at the pauses. Engagement prolongs a visit, but starts none and does not count as an event.
3. rows: the part of each visit in each bucket. An event counts in the range and bucket of its own time, a visit in those of
   its first event. Where buckets of time make these differ, a row counts either events (part 0) or visits (part 1).
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
            {{if .Split}}part{{else}}{{template "started" .}}{{end}} AS begins,
            countIf(e.kind = 'pageview'{{if .Split}} AND part = 0{{end}}) AS row_pageviews,
            {{if .Split}}countIf(part = 0){{else}}count(){{end}} AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        {{- if .Split}}
        ARRAY JOIN [0, 1] AS part
        {{- end}}
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'){{range .Holes}}{{template "hole" (.Of "e.ts")}}{{end}}
        {{- if .Split}}
            AND (part = 0 OR {{template "started" .}})
        {{- else if .VisitsOnly}}
            AND {{template "started" .}}
        {{- end}}
        {{- range .Filters}}
            AND {{template "filter" .}}
        {{- end}}
        GROUP BY {{range $i, $d := .Dimensions}}d{{$i}}, {{end}}visitor, start, begins
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

{{- define "started"}}start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'){{range .Holes}}{{template "hole" (.Of "start")}}{{end}}{{end}}

{{- define "visit metric" -}}
    {{if eq . "visitors"}}toFloat64(uniqExactIf(visitor, row_events > 0))
    {{- else if eq . "pageviews"}}toFloat64(sum(row_pageviews))
    {{- else if eq . "events"}}toFloat64(sum(row_events))
    {{- else if eq . "visits"}}toFloat64(countIf(begins))
    {{- else if eq . "views_per_visit"}}if(countIf(begins) = 0, NULL, round(sumIf(visit_views, begins) / countIf(begins), 2))
    {{- else if eq . "bounce_rate"}}if(countIf(begins) = 0, NULL, round(100 * countIf(begins AND visit_bounced) / countIf(begins)))
    {{- else if eq . "visit_duration"}}if(countIf(begins) = 0, NULL, round(sumIf(visit_ms, begins) / countIf(begins) / 1000))
    {{- end}}
{{- end}}
