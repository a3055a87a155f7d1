{{- /* What is directly before or after a page: kind 0 a page, 1 nothing, 2 the sum of all. */ -}}
WITH
    walks AS
    (
    {{- template "walks" .}}
    ),
    found AS
    (
        SELECT {{template "neighbours" .}} AS neighbours
        FROM walks
    )
SELECT
    neighbour.1 AS kind,
    neighbour.2 AS key,
    toUInt64(sum(if(kind = 2, length(neighbours), countEqual(neighbours, neighbour)))) AS times,
    count() AS visits,
    toUInt64(count() OVER () - 1) AS total
FROM found
ARRAY JOIN arrayPushFront(arrayDistinct(neighbours), (toUInt8(2), toUInt64(0))) AS neighbour
GROUP BY kind, key
ORDER BY kind = 2 DESC, times DESC, kind, key
LIMIT {{.Limit}}
