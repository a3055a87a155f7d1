{{- /* The sites' days of a build. A day's rows are within its 38 hours, wherever on Earth its site is. */ -}}
{{- define "units" -}}
    site IN {sites:Array(String)}
    AND toStartOfHour(ts) >= toDateTime({from:UInt32}, 'UTC') AND toStartOfHour(ts) <= toDateTime({to:UInt32}, 'UTC')
    AND {{template "listed"}}
{{- end}}
{{- define "listed" -}}
    (site, toUInt16(day)) IN (SELECT u.1, u.2 FROM (SELECT arrayJoin(arrayZip({sites:Array(String)}, {days:Array(UInt16)})) AS u))
{{- end}}

{{- /* Those of a seal that have rollups. */ -}}
{{- define "rolled" -}}
    (site, day) IN (SELECT site, day FROM visits WHERE seal = {seal:UInt64} GROUP BY site, day HAVING count() >= {least:UInt64})
{{- end}}

{{- /* The strings of pages and referrers, of the events of days. */ -}}
{{- define "names of events" -}}
    SELECT DISTINCT site, v.1 AS dim, cityHash64(v.2) AS key, v.2 AS value
    FROM
    (
        SELECT site, arrayJoin([('page', path), ('referrer', referrer)]) AS v
        FROM events
        WHERE kind != 'engagement' AND {{template "units" .}}
    )
{{- end}}
