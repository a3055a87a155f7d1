{{- /* Users by the period of their first visit in the range and each period in which they have one. Rows of before the
site's own days, whose day is UTC's, count on the nearest of the range. */ -}}
SELECT
    toString(periods[1]) AS cohort,
    toString(period) AS returned,
    count() AS users
FROM
(
    SELECT arraySort(groupUniqArray({{.Period}})) AS periods
    FROM
    (
        SELECT least(greatest(day, toDate({{.First}})), toDate({{.Last}})) AS date, any(user) AS id
        FROM ({{.From}})
        WHERE user != 0
        GROUP BY day, who, visit
    {{- with .Passes}}
        HAVING max({{.}})
    {{- end}}
    )
    GROUP BY id
)
ARRAY JOIN periods AS period
GROUP BY cohort, returned
ORDER BY cohort, returned
