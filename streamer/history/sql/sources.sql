{{- /* What the parts of a question read. */ -}}

{{- /* The site's days that a seal has. Its partitions are known before any row is read. */ -}}
{{- define "sealed" -}}
    seal IN { {{- .All}}:Array(UInt64)} AND site = {site:String} AND day >= { {{- .First}}:Date} AND day <= { {{- .Last}}:Date}
    {{- if .Days}} AND transform(toUInt16(day), { {{- .Days}}:Array(UInt16)}, { {{- .Seals}}:Array(UInt64)}, toUInt64(0)) = seal{{end}}
{{- end}}

{{- /* The events of days that aren't sealed. The sorting key of `events` is site, hour, visitor, time: without the hours
ClickHouse would read all granules of the site in a month. */ -}}
{{- define "open" -}}
    site = {site:String} AND ({{range $i, $r := .Runs}}{{if $i}} OR {{end}}{{template "run" .}}{{end}})
    {{- with .Days}} AND has({ {{- .}}:Array(UInt16)}, toUInt16({{template "local day"}})){{end}}
{{- end}}

{{- define "run" -}}
    toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({ {{- .From}}:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({ {{- .To}}:Int64} - 1, 'UTC'))
    {{- /* the time itself */}} AND ts >= fromUnixTimestamp64Milli({ {{- .From}}:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({ {{- .To}}:Int64}, 'UTC')
    {{- /* by the site's clocks when ingest received them */}} AND (events.utc_offset = -1 OR events.day >= { {{- .First}}:Date} AND events.day <= { {{- .Last}}:Date})
{{- end}}

{{- /* Page views and custom events, where nothing of their visits is asked. */ -}}
{{- define "plain" -}}
(
    SELECT {{template "local day"}} AS day, {{template "local offset"}} AS utc_offset, visitor AS who, ts, kind, path AS page{{range .Columns}}, {{.}}{{end}}
    FROM events FINAL
    WHERE kind != 'engagement' AND {{template "open" .}}
)
{{- end}}

{{- /* The local day and offset of an event. A row of before has neither: its offset comes from Go, as those of ClickHouse's
timezoneOffset are wrong for some zones (26.7), each with the second from which it applies. */ -}}
{{- define "local day"}}if(events.utc_offset = -1, toDate(toDateTime(toInt64(toUnixTimestamp(events.ts)) + {{template "zone offset" "events.ts"}}, 'UTC')), events.day){{end}}
{{- define "local offset"}}if(events.utc_offset = -1, toInt32({{template "zone offset" "events.ts"}}), events.utc_offset){{end}}
{{- define "zone offset"}}transform(roundDown(toInt64(toUnixTimestamp({{.}})), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}){{end}}
