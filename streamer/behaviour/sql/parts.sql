{{- /* The templates that the statements of this package share. */ -}}

{{- /* The pages of a visit in order, where consecutive views of one page are one, each with whether it is the one that is asked
about. */ -}}
{{- define "pages" -}}
    arrayCompact(arrayMap(v -> v.2, arraySort(v -> v.1, groupArrayIf((n, (page_key, {{or .Page "0"}})), kind = 'pageview'))))
{{- end}}

{{- define "walks"}}
        SELECT {{template "pages" .}} AS pages
        FROM ({{.From}})
        GROUP BY day, who, visit
        HAVING {{if .Page}}arrayExists(p -> p.2, pages){{else}}notEmpty(pages){{end}}{{template "passing" .}}
{{- end}}

{{- /* A visit passes the filters when one of its hits does. */ -}}
{{- define "passing"}}{{with .Passes}} AND max({{.}}){{end}}{{end}}

{{- /* For each view of the page, whether it is the visit's first, or last, and the page that is before it, or after it. */ -}}
{{- define "neighbours" -}}
    arrayFilter(
        (neighbour, p) -> p.2,
        {{if .Before}}arrayMap((p, i) -> (toUInt8(i = 1), p), arrayPushFront(arrayPopBack(pages.1), toUInt64(0)), arrayEnumerate(pages))
        {{- else}}arrayMap((p, i) -> (toUInt8(i = length(pages)), p), arrayPushBack(arrayPopFront(pages.1), toUInt64(0)), arrayEnumerate(pages)){{end}},
        pages)
{{- end}}
