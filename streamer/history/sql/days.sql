{{- /* The days of a site that have changed, each with the seal that has all of its changes; 0: none has. `labelled` tells that
a value of the dimension is the label of empty ones, so that the stored sums of both don't add up to those of the label. */ -}}
WITH (SELECT count() > 0 FROM names WHERE site = {site:String} AND dim = {dim:String} AND key = cityHash64({label:String})) AS labelled
SELECT toUInt16(day), seal, rolled AND NOT labelled, monthly
FROM (SELECT day, sum(n) AS n FROM marks WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date} GROUP BY day) AS m
LEFT JOIN (SELECT day, seal, marks, rolled, monthly FROM seals FINAL WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date}) AS s
    ON m.day = s.day AND m.n = s.marks
ORDER BY day
