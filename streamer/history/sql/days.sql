{{- /* The days of a site that have changed, each with the seal that has all of its changes; 0: none has. `labelled` are the
dimensions of which a value is the label of empty ones, so that their stored sums don't add up to those of the label. */ -}}
{{- if .}}
WITH (
    SELECT groupUniqArray(toString(dim))
    FROM names
    WHERE site = {site:String} AND (dim, key) IN (SELECT d.1, cityHash64(d.2) FROM (SELECT arrayJoin(arrayZip({dims:Array(String)}, {labels:Array(String)})) AS d))
) AS labelled
{{- end}}
SELECT number, if(last.2 = n, last.1, 0), last.3, last.4, {{if .}}labelled{{else}}[]::Array(String){{end}}
FROM
(
    SELECT toUInt16(day) AS number, sum(changes) AS n, argMax(build, version) AS last
    FROM
    (
        SELECT day, n AS changes, tuple(toUInt64(0), toUInt64(0), false, false) AS build, toUInt64(0) AS version
        FROM marks
        WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date}
        UNION ALL
        SELECT day, toUInt64(0) AS changes, tuple(seal, marks, rolled, monthly) AS build, version
        FROM seals
        WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date}
    )
    GROUP BY number
)
WHERE n > 0
ORDER BY number
