{{- /* The parts of a question, and what they share. Each has the columns d0, d1, …, n0, … and s_…: the values of the
dimensions, the strings of those that are keys, and sums. */ -}}

{{- /* Each row counts by itself. Where visits are counted, .Once holds for one row of each visit. */ -}}
{{- define "flat"}}
    SELECT
    {{- range $i, $d := .Dimensions}}
        {{if not .Names}}{{template "dimension" .}} AS d{{$i}},
        {{- else if .Key}}{{template "dimension" .}} AS d{{$i}}, '' AS n{{$i}},
        {{- else}}cityHash64({{template "dimension" .}}) AS d{{$i}}, any({{template "dimension" .}}) AS n{{$i}},
        {{- end}}
    {{- end}}
    {{- range .Sums}}
        {{if .Absent}}toUInt64(0){{else if $.OfVisits}}{{template "sum of visits" .}}{{else}}{{template "flat sum" .}}{{end}} AS s_{{.Name}},
    {{- end}}
        {{if .Apart}}toUInt64(0){{else}}count(){{end}} AS s_rows{{template "all known" .}}
    FROM {{.From}}
    {{- template "where" .}}
    {{- if .Dimensions}}
    GROUP BY {{range $i, $d := .Dimensions}}{{if $i}}, {{end}}d{{$i}}{{end}}
    {{- end}}
{{- end}}

{{- /* Beside imports: which metrics are known. */ -}}
{{- define "all known"}}{{if .Known}},
        toUInt8(255) AS s_known{{end}}{{end}}

{{- define "where"}}
    {{- range $i, $w := .Where}}
    {{if $i}}    AND{{else}}WHERE{{end}} {{.}}
    {{- end}}
{{- end}}

{{- define "flat sum" -}}
    {{if eq .Name "pageviews"}}countIf(kind = 'pageview')
    {{- else if eq .Name "events"}}count()
    {{- else if and (eq .Name "visitors") .Once}}countIf(alone AND {{.Once}}) + uniqExactIf({{template "person" .Keys}}, NOT alone)
    {{- else if eq .Name "visitors"}}uniqExact({{template "person" .Keys}})
    {{- else if eq .Name "views"}}sumIf(toUInt64(pageviews), {{.Once}})
    {{- else if eq .Name "bounces"}}countIf({{.Once}} AND bounced)
    {{- else if eq .Name "duration_ms"}}sumIf(toUInt64(duration_ms), {{.Once}})
    {{- else if eq .Name "exits"}}countIf({{.Once}} AND {{template "exits" .Keys}})
    {{- else}}countIf({{.Once}})
    {{- end}}
{{- end}}

{{- /* The visitors of several days: numbers of sealed days, and the ids of others, which differ by day anyway but for those of
before days were the sites'. */ -}}
{{- define "person"}}{{if .}}bitOr(bitShiftLeft(toUInt64(day), 32), toUInt64(who)){{else}}bitXor(who, toUInt64(day) * 11400714819323198485){{end}}{{end}}

{{- /* The visit ended on the page of the event; a page without a name is that of its label. */ -}}
{{- define "exits" -}}
    pageviews > 0 AND (page = exit OR page IN {{template "no page" .}} AND exit IN {{template "no page" .}})
{{- end}}
{{- define "no page"}}{{if .}}(cityHash64(''), cityHash64('(not set)')){{else}}('', '(not set)'){{end}}{{end}}

{{- define "sum of visits" -}}
    {{if eq .Name "visitors"}}countIf(alone) + uniqExactIf({{template "person" .Keys}}, NOT alone)
    {{- else if eq .Name "pageviews"}}sum(toUInt64(pageviews))
    {{- else if eq .Name "views"}}sum(toUInt64(pageviews))
    {{- else if eq .Name "events"}}sum(toUInt64(events))
    {{- else if eq .Name "bounces"}}countIf(bounced)
    {{- else if eq .Name "duration_ms"}}sum(toUInt64(duration_ms))
    {{- else}}count()
    {{- end}}
{{- end}}

{{- /* The rows are first grouped to the part of each visit in each group. An event counts in the range and bucket of its own
time, a visit in those of its first event. Where buckets of time make these differ, a row counts either events (part 0) or
visits (part 1). Bounce rate and duration by page are of the visits that entered on the page (part 2); a group of these alone
is no row. */ -}}
{{- define "rows"}}
    SELECT
    {{- range $i, $d := .Dimensions}}
        {{if not .Names}}r{{$i}} AS d{{$i}},
        {{- else if .Key}}r{{$i}} AS d{{$i}}, '' AS n{{$i}},
        {{- else}}cityHash64(r{{$i}}) AS d{{$i}}, any(r{{$i}}) AS n{{$i}},
        {{- end}}
    {{- end}}
    {{- range .Sums}}
        {{if .Absent}}toUInt64(0){{else}}{{template "row sum" .}}{{end}} AS s_{{.Name}},
    {{- end}}
        countIf(NOT entered) AS s_rows{{template "all known" .}}
    FROM
    (
        SELECT
        {{- range $i, $d := .Dimensions}}
            {{template "dimension" $d}} AS r{{$i}},
        {{- end}}
            day,
            who,
            visit,
            {{if .Entered}}part = 1{{else if .Parts}}part = 1{{else if .Begins}}{{.Begins}}{{else}}true{{end}} AS begins,
            {{if .Entered}}part = 2{{else}}false{{end}} AS entered,
            countIf(kind = 'pageview'{{if .Parts}} AND part = 0{{end}}) AS row_pageviews,
            {{if .Parts}}countIf(part = 0){{else}}count(){{end}} AS row_events,
        {{- if .Engaged}}
            max(scroll_depth) AS row_depth,
            sum(toUInt64(engaged_ms)) AS row_engaged_ms,
        {{- end}}
        {{- if .Exits}}
            max({{template "exits" .Keys}}) AS row_exits,
        {{- end}}
            toUInt64(any(pageviews)) AS visit_views,
            toUInt64(any(duration_ms)) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM {{.From}}
        {{- if .Parts}}
        ARRAY JOIN [{{range $i, $p := .Parts}}{{if $i}}, {{end}}{{$p}}{{end}}] AS part
        {{- end}}
        {{- template "where" .}}
        GROUP BY {{range $i, $d := .Dimensions}}r{{$i}}, {{end}}day, who, visit, begins, entered
    )
    {{- if .Dimensions}}
    GROUP BY {{range $i, $d := .Dimensions}}{{if $i}}, {{end}}d{{$i}}{{end}}
    {{- end}}
{{- end}}

{{- define "row sum" -}}
    {{if eq .Name "visitors"}}uniqExactIf({{template "person" .Keys}}, row_events > 0)
    {{- else if eq .Name "pageviews"}}sum(row_pageviews)
    {{- else if eq .Name "events"}}sum(row_events)
    {{- else if eq .Name "visits"}}countIf(begins)
    {{- else if eq .Name "views"}}sumIf(visit_views, begins)
    {{- else if eq .Name "entries"}}countIf({{.Of}})
    {{- else if eq .Name "bounces"}}countIf({{.Of}} AND visit_bounced)
    {{- else if eq .Name "duration_ms"}}sumIf(visit_ms, {{.Of}})
    {{- else if eq .Name "scroll_depth"}}sumIf(toUInt64(row_depth), begins)
    {{- else if eq .Name "scrolled_visits"}}countIf(begins AND row_depth > 0)
    {{- else if eq .Name "engaged_ms"}}sumIf(row_engaged_ms, begins)
    {{- else if eq .Name "engaged_visits"}}countIf(begins AND row_engaged_ms > 0)
    {{- else if eq .Name "exits"}}countIf(begins AND row_exits)
    {{- end}}
{{- end}}

{{- /* Sums that are stored. */ -}}
{{- define "rollups"}}
    SELECT
    {{- range $i, $d := .Dimensions}}
        {{if .Names}}{{template "dimension" .}} AS d{{$i}}, '' AS n{{$i}},
        {{- else}}{{template "dimension" .}} AS d{{$i}},
        {{- end}}
    {{- end}}
    {{- range .Sums}}
        {{if .Absent}}toUInt64(0){{else}}{{template "stored sum" .}}{{end}} AS s_{{.Name}},
    {{- end}}
        {{if .Apart}}toUInt64(0){{else}}count(){{end}} AS s_rows{{template "all known" .}}
    FROM rollups
    {{- template "where" .}}
    {{- if .Dimensions}}
    GROUP BY {{range $i, $d := .Dimensions}}{{if $i}}, {{end}}d{{$i}}{{end}}
    {{- end}}
{{- end}}
{{- define "stored sum"}}sum({{if eq .Name "entries"}}visits{{else}}{{.Name}}{{end}}){{end}}

{{- /* A time in the range. A range of local times has a hole where clocks go back within it and show other times first. */ -}}
{{- define "within" -}}
    {{.Value}} >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND {{.Value}} < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    {{- range .Holes}} AND NOT ({{$.Value}} >= fromUnixTimestamp64Milli({ {{- .From}}:Int64}, 'UTC') AND {{$.Value}} < fromUnixTimestamp64Milli({ {{- .To}}:Int64}, 'UTC')){{end}}
{{- end}}

{{- /* The value of a dimension: a string, or where the rows have keys, a key. An empty value is that of its label. */ -}}
{{- define "dimension"}}
    {{- if .Grain}}{{template "time" .}}
    {{- else if .Key}}if({{.Value}} IN (0, cityHash64('')), cityHash64('{{.EmptyLabel}}'), {{.Value}})
    {{- else}}if({{.Value}} = '', '{{.EmptyLabel}}', {{.Value}})
    {{- end}}
{{- end}}

{{- /* Buckets are those of the site's local time; an hour that occurs twice is one bucket. */ -}}
{{- define "time"}}
    {{- if eq .Grain "time:second"}}toString({{template "wall" .}})
    {{- else if eq .Grain "time:minute"}}toString(toStartOfMinute({{template "wall" .}}))
    {{- else if eq .Grain "time:hour"}}toString(toStartOfHour({{template "wall" .}}))
    {{- else if eq .Grain "time:day"}}toString(day)
    {{- else if eq .Grain "time:week"}}toString(greatest(toMonday(day), toDate({range_day:String})))
    {{- else if eq .Grain "time:month"}}toString(toStartOfMonth(day))
    {{- end}}
{{- end}}

{{- /* The local time, as if it were UTC: of an event, of the begin of its visit, or of the one or the other. */ -}}
{{- define "wall" -}}
    {{if eq .Value "hour"}}toDateTime(day, 'UTC') + toIntervalHour(hour)
    {{- else if eq .Value "part"}}if(part = 0, {{template "local ts"}}, {{template "local start"}})
    {{- else if eq .Value "start"}}{{template "local start"}}
    {{- else if eq .Value "visit"}}toDateTime(toInt64(toUnixTimestamp(start)) + utc_offset, 'UTC')
    {{- else}}{{template "local ts"}}
    {{- end}}
{{- end}}
{{- define "local ts"}}toDateTime(toInt64(toUnixTimestamp(ts)) + utc_offset, 'UTC'){{end}}
{{- /* The offset of an event may be another than that of its visit's begin, if clocks change between them. */ -}}
{{- define "local start"}}toDateTime(toInt64(toUnixTimestamp(start)) + if(utc_offset = {{template "zone offset" "ts"}}, {{template "zone offset" "start"}}, utc_offset), 'UTC'){{end}}

{{- define "filter"}}
    {{- if .Connective}}({{range $i, $f := .Filters}}{{if $i}} {{$.Connective}} {{end}}{{template "filter" $f}}{{end}})
    {{- else if .Negated}}NOT ({{template "comparison" .}})
    {{- else}}{{template "comparison" .}}
    {{- end}}
{{- end}}

{{- define "comparison"}}
    {{- if eq .Op "not"}}{{range .Filters}}{{template "filter" .}}{{end}}
    {{- else if not .Dimension.Key}}{{template "compare" .}}
    {{- else if and (eq .Op "is") (not .IgnoreCase)}}{{template "dimension" .Dimension}} IN (arrayMap(v -> cityHash64(v), { {{- .Param}}:Array(String)}))
    {{- else}}{{template "dimension" .Dimension}} IN (SELECT key FROM names WHERE site = {site:String} AND dim = '{{.Dimension.Column}}' AND {{template "compare" .Strings}} UNION ALL SELECT cityHash64('{{.Dimension.EmptyLabel}}') AS key FROM (SELECT '' AS value) WHERE {{template "compare" .Strings}})
    {{- end}}
{{- end}}

{{- define "compare"}}
    {{- if and (eq .Op "is") .IgnoreCase}}lowerUTF8({{template "dimension" .Dimension}}) IN (arrayMap(v -> lowerUTF8(v), { {{- .Param}}:Array(String)}))
    {{- else if eq .Op "is"}}{{template "dimension" .Dimension}} IN { {{- .Param}}:Array(String)}
    {{- else if and (eq .Op "contains") .IgnoreCase}}arrayExists(v -> position(lowerUTF8({{template "dimension" .Dimension}}), lowerUTF8(v)) > 0, { {{- .Param}}:Array(String)})
    {{- else if eq .Op "contains"}}arrayExists(v -> position({{template "dimension" .Dimension}}, v) > 0, { {{- .Param}}:Array(String)})
    {{- else if eq .Op "matches"}}({{range $i, $p := .Params}}{{if $i}} OR {{end}}match({{template "dimension" $.Dimension}}, { {{- $p}}:String}){{end}})
    {{- end}}
{{- end}}
