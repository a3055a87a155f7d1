{{- /* The templates that the statements of this package share. */ -}}

{{- /* The pages of a visit in order, where consecutive views of one page are one. */ -}}
{{- define "walks"}}
        SELECT
            arrayCompact(arrayMap(v -> v.2, arraySort(groupArrayIf((n, page), kind = 'pageview')))) AS pages
        FROM ({{.From}})
        GROUP BY day, who, visit
        HAVING {{if .Page}}arrayExists(p -> {{call .Page "p"}}, pages){{else}}notEmpty(pages){{end}}{{template "passing" .}}
{{- end}}

{{- /* A visit passes the filters when one of its hits does. */ -}}
{{- define "passing"}}{{if ne .Passes "1"}} AND max({{.Passes}}){{end}}{{end}}

{{- /* For each view of the page, whether it is the visit's first, or last, and the page that is before it, or after it. */ -}}
{{- define "neighbours" -}}
    arrayFilter(
        (neighbour, p) -> {{call .Page "p"}},
        {{if .Before}}arrayMap((p, i) -> (toUInt8(i = 1), p), arrayPushFront(arrayPopBack(pages), ''), arrayEnumerate(pages))
        {{- else}}arrayMap((p, i) -> (toUInt8(i = length(pages)), p), arrayPushBack(arrayPopFront(pages), ''), arrayEnumerate(pages)){{end}},
        pages)
{{- end}}
