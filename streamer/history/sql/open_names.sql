{{- /* The strings behind some keys, of the events of open days. */ -}}
SELECT cityHash64({{.Column}}) AS key, any({{.Column}})
FROM events
WHERE {{template "open" .}} AND key IN ({keys:Array(UInt64)})
GROUP BY key
