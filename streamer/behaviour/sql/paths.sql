{{- /* The paths of a number of pages one after another. The path of no page is the sum of all. */ -}}
WITH
    walks AS
    (
    {{- template "walks" .}}
    ),
    taken AS
    (
        SELECT arrayFilter(
            w -> length(w) = {{.Length}}{{if .Page}} AND {{if .Before}}{{call .Page "w[-1]"}}{{else}}{{call .Page "w[1]"}}{{end}}{{end}},
            arrayMap(i -> arraySlice(pages, i, {{.Length}}), arrayEnumerate(pages))) AS paths
        FROM walks
        WHERE notEmpty(paths)
    )
SELECT
    path,
    toUInt64(sum(if(empty(path), length(paths), countEqual(paths, path)))) AS times,
    count() AS visits,
    toUInt64(count() OVER () - 1) AS total
FROM taken
ARRAY JOIN arrayPushFront(arrayDistinct(paths), emptyArrayString()) AS path
GROUP BY path
ORDER BY empty(path) DESC, visits DESC, times DESC, path
LIMIT {{.Limit}}
