{{- /* The paths of a number of pages one after another. The path of no page is the sum of all. */ -}}
WITH
    walks AS
    (
    {{- template "walks" .}}
    ),
    taken AS
    (
        SELECT arrayFilter(
            (w, first, last) -> length(w) = {{.Length}}{{if .Page}} AND {{if .Before}}last{{else}}first{{end}}{{end}},
            arrayMap(i -> arraySlice(pages.1, i, {{.Length}}), arrayEnumerate(pages)),
            pages.2,
            arrayMap(i -> pages.2[i + {{.Length}} - 1], arrayEnumerate(pages))) AS paths
        FROM walks
        WHERE notEmpty(paths)
    )
SELECT
    path,
    toUInt64(sum(if(empty(path), length(paths), countEqual(paths, path)))) AS times,
    count() AS visits,
    toUInt64(count() OVER () - 1) AS total
FROM taken
ARRAY JOIN arrayPushFront(arrayDistinct(paths), emptyArrayUInt64()) AS path
GROUP BY path
ORDER BY empty(path) DESC, visits DESC, times DESC, path
LIMIT {{.Limit}}
