{{- /* How many visitors of a day have 1, 2, 3, and 4 or more visits on it. */ -}}
SELECT
    toUInt8(least(n, 4)) AS visits_a_day,
    count() AS visitor_days,
    sum(n) AS visits
FROM
(
    SELECT uniqExactIf(visit, {{or .Passes "1"}}) AS n
    FROM ({{.From}})
    GROUP BY day, who
    HAVING n > 0
)
GROUP BY visits_a_day
ORDER BY visits_a_day
