{{- /* The hits of whole visits, for the statements of package behaviour, of sealed and of open days. Pages are keys in both. */ -}}
{{- range $i, $p := .}}
{{- if $i}}
UNION ALL
{{- end}}
    SELECT
        day,
        toUInt64(who) AS who,
        visit,
        n,
        ts,
        toString(kind) AS kind,
        {{template "hit key" .Page}} AS page_key,
        pageviews,
        bounced
    {{- range .Columns}},
        {{.}}
    {{- end}}
    {{- range $j, $v := .Values}},
        {{if .Names}}toString({{template "hit key" .}}){{else}}toString({{template "dimension" .}}){{end}} AS v{{$j}}
    {{- end}}
    {{- range $j, $c := .Conditions}},
        toUInt8({{.}}) AS c{{$j}}
    {{- end}}
    FROM {{.From}}
    {{- template "where" .}}
{{- end}}

{{- define "hit key"}}{{if .Key}}{{template "dimension" .}}{{else}}cityHash64({{template "dimension" .}}){{end}}{{end}}
