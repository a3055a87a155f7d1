{{- /*
Metrics and dimensions of visits. The events of a visit are less than 30 minutes apart.

1. visitors: the events of each visitor in the order of the log. A visitor's id is valid for one day in UTC, so reading the
   first day of the range from its midnight cuts no visit at its start.
2. visits: these chains, cut at the pauses. Engagement prolongs a visit, but starts none and does not count as an event.
3. rows: the part of each visit in each bucket. An event counts in the range and bucket of its own time, a visit in those of
   its first event. Where buckets of time make these differ, a row counts either events (part 0) or visits (part 1).
   Bounce rate and duration by page are of the visits that entered on the page (part 2); a group of these alone is no row.
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
            {{if .Entered}}part = 1{{else if .Parts}}part{{else}}{{template "started" .}}{{end}} AS begins,
        {{- if .Entered}}
            part = 2 AS entered,
        {{- end}}
            countIf(e.kind = 'pageview'{{if .Parts}} AND part = 0{{end}}) AS row_pageviews,
            {{if .Parts}}countIf(part = 0){{else}}count(){{end}} AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        {{- if .Parts}}
        ARRAY JOIN [{{range $i, $p := .Parts}}{{if $i}}, {{end}}{{$p}}{{end}}] AS part
        {{- end}}
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'){{range .Holes}}{{template "hole" (.Of "e.ts")}}{{end}}
        {{- if .Parts}}
            AND (part = 0 OR {{template "started" .}})
        {{- else if .VisitsOnly}}
            AND {{template "started" .}}
        {{- end}}
        {{- range .Filters}}
            AND {{if .Unless}}({{.Unless}} OR {{template "filter" .}}){{else}}{{template "filter" .}}{{end}}
        {{- end}}
        GROUP BY {{range $i, $d := .Dimensions}}d{{$i}}, {{end}}visitor, start, begins{{if .Entered}}, entered{{end}}
    )
SELECT
{{- range $i, $d := .Dimensions}}
    d{{$i}},
{{- end}}
{{- range .Metrics}}
    {{template "visit metric" .}} AS {{.Name}},
{{- end}}
    count() OVER () AS total_rows
FROM rows
{{- template "rows" .}}

{{- define "started"}}start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'){{range .Holes}}{{template "hole" (.Of "start")}}{{end}}{{end}}

{{- define "visit metric" -}}
    {{if eq .Name "visitors"}}toFloat64(uniqExactIf(visitor, row_events > 0))
    {{- else if eq .Name "pageviews"}}toFloat64(sum(row_pageviews))
    {{- else if eq .Name "events"}}toFloat64(sum(row_events))
    {{- else if eq .Name "visits"}}toFloat64(countIf(begins))
    {{- else if eq .Name "views_per_visit"}}if(countIf(begins) = 0, NULL, round(sumIf(visit_views, begins) / countIf(begins), 2))
    {{- else if eq .Name "bounce_rate"}}if(countIf({{.Of}}) = 0, NULL, round(100 * countIf({{.Of}} AND visit_bounced) / countIf({{.Of}})))
    {{- else if eq .Name "visit_duration"}}if(countIf({{.Of}}) = 0, NULL, round(sumIf(visit_ms, {{.Of}}) / countIf({{.Of}}) / 1000))
    {{- end}}
{{- end}}
