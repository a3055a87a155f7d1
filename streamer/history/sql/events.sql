{{- /* Metrics and dimensions of single events. */ -}}
SELECT
{{- range $i, $d := .Dimensions}}
    {{template "dimension" $d}} AS d{{$i}},
{{- end}}
{{- range .Metrics}}
    {{template "event metric" .Name}} AS {{.Name}},
{{- end}}
    count() OVER () AS total_rows
FROM events FINAL
WHERE {{template "span" "from"}}{{range .Holes}}{{template "hole" (.Of "ts")}}{{end}}
    AND kind != 'engagement'
{{- range .Filters}}
    AND {{template "filter" .}}
{{- end}}
{{- template "rows" .}}

{{- define "event metric" -}}
    toFloat64({{if eq . "pageviews"}}countIf(kind = 'pageview'){{else if eq . "events"}}count(){{else}}uniqExact(visitor){{end}})
{{- end}}
