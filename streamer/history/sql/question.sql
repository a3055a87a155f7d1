{{- /*
The answer: what its parts, which are disjoint by day, add up to. A visitor's id is of one day, so sums of days are exact.

Where a part has keys in place of strings, groups are by key, and those that may be in the page of rows get their strings from
`names` before rows are put in order.
*/ -}}
{{- if .Keyed -}}
SELECT
{{- range $i, $d := .Dimensions}}
    {{if .Names}}multiIf(groups.n{{$i}} != '', groups.n{{$i}}, groups.d{{$i}} = cityHash64('{{.EmptyLabel}}'), '{{.EmptyLabel}}', names{{$i}}.value){{else}}groups.d{{$i}}{{end}} AS d{{$i}},
{{- end}}
{{- range .Metrics}}
    groups.{{.}} AS {{.}},
{{- end}}
    groups.total_rows AS total_rows
FROM
(
{{- end}}
SELECT
{{- range $i, $d := .Dimensions}}
    d{{$i}},
{{- if .Names}}
    max(n{{$i}}) AS n{{$i}},
{{- end}}
{{- end}}
{{- range .Metrics}}
    {{if $.Known}}if(bitAnd(groupBitAnd(s_known), {{template "known bit" .}}) = 0, NULL, {{template "metric" .}}){{else}}{{template "metric" .}}{{end}} AS {{.}},
{{- end}}
    count() OVER () AS total_rows
FROM
(
{{- range $i, $p := .Parts}}
{{- if $i}}
UNION ALL
{{- end}}
{{.}}
{{- end}}
)
{{- if .Dimensions}}
GROUP BY {{range $i, $d := .Dimensions}}{{if $i}}, {{end}}d{{$i}}{{end}}
{{- if .Entered}}
HAVING sum(s_rows) > 0
{{- end}}
{{- end}}
{{- if .Keyed}}
{{- if .First}}
ORDER BY {{template "list" .First}}
LIMIT {limit:UInt32} + {offset:UInt32} WITH TIES
{{- end}}
) AS groups
{{- range $i, $d := .Dimensions}}
{{- if .Names}}
LEFT JOIN (SELECT key, any(value) AS value FROM names WHERE site = {site:String} AND dim = '{{.Names}}' GROUP BY key) AS names{{$i}} ON groups.d{{$i}} = names{{$i}}.key
{{- end}}
{{- end}}
{{- end}}
ORDER BY {{template "list" .OrderBy}}
LIMIT {limit:UInt32} OFFSET {offset:UInt32}

{{- define "list"}}{{range $i, $o := .}}{{if $i}}, {{end}}{{$o}}{{end}}{{end}}

{{- define "metric" -}}
    {{if eq . "views_per_visit"}}if(sum(s_visits) = 0, NULL, round(sum(s_views) / sum(s_visits), 2))
    {{- else if eq . "bounce_rate"}}if(sum(s_entries) = 0, NULL, round(100 * sum(s_bounces) / sum(s_entries)))
    {{- else if eq . "visit_duration"}}if(sum(s_entries) = 0, NULL, round(sum(s_duration_ms) / sum(s_entries) / 1000))
    {{- else if eq . "scroll_depth"}}if(sum(s_scrolled_visits) = 0, NULL, round(sum(s_scroll_depth) / sum(s_scrolled_visits)))
    {{- else if eq . "time_on_page"}}if(sum(s_engaged_visits) = 0, NULL, round(sum(s_engaged_ms) / sum(s_engaged_visits) / 1000))
    {{- else if eq . "exit_rate"}}if(sum(s_pageviews) = 0, NULL, round(100 * sum(s_exits) / sum(s_pageviews), 1))
    {{- else}}toFloat64(sum(s_{{.}}))
    {{- end}}
{{- end}}
