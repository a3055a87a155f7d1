{{- /* The hits of the visits that began in a range, in the columns of internal/hits with pages as strings. Visits are
whole: the days in UTC and those of the site that the range touches are read from their begin to their end. */ -}}
SELECT * FROM (
{{.Fold}}
)
WHERE start >= fromUnixTimestamp64Milli({hits_from:Int64}, 'UTC') AND start < fromUnixTimestamp64Milli({hits_to:Int64}, 'UTC')
{{- range .Holes}}{{template "hole" (.Of "start")}}{{end}}
