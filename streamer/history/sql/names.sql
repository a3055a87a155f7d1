{{- /* The strings behind some keys, as far as `names` has them. */ -}}
SELECT key, any(value)
FROM
(
    SELECT key, value FROM names WHERE site = {site:String} AND dim = {dim:String} AND key IN ({keys:Array(UInt64)})
    UNION ALL
    SELECT cityHash64({label:String}), {label:String}
)
GROUP BY key
