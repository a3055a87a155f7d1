{{- /* The templates that events.sql and visits.sql share. */ -}}

{{- /* The sorting key of `events` is site, hour, visitor, time: without the hours ClickHouse would read all granules of the
site in a month. */ -}}
{{- define "span" -}}
    site = {site:String}
    {{- /* the hours of the sorting key */}} AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({ {{- .}}:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({to:Int64} - 1, 'UTC'))
    {{- /* the range itself */}} AND ts >= fromUnixTimestamp64Milli({ {{- .}}:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
{{- end}}

{{- /* A range of local times has a hole where clocks go back within it and show other times first. */ -}}
{{- define "hole"}} AND NOT ({{.Value}} >= fromUnixTimestamp64Milli({ {{- .From}}:Int64}, 'UTC') AND {{.Value}} < fromUnixTimestamp64Milli({ {{- .To}}:Int64}, 'UTC'))
{{- end}}

{{- define "rows"}}
{{- if .Dimensions}}
GROUP BY {{range $i, $d := .Dimensions}}{{if $i}}, {{end}}d{{$i}}{{end}}
{{- if .Entered}}
HAVING countIf(NOT entered) > 0
{{- end}}
{{- end}}
ORDER BY {{range $i, $o := .OrderBy}}{{if $i}}, {{end}}{{$o}}{{end}}
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
{{- end}}

{{- define "dimension"}}
    {{- if .Grain}}{{template "time" .}}
    {{- else}}if({{.Value}} = '', '{{.EmptyLabel}}', {{.Value}})
    {{- end}}
{{- end}}

{{- /* Buckets are those of the site's local time; an hour that occurs twice is one bucket. */ -}}
{{- define "time"}}
    {{- if eq .Grain "time:second"}}toString({{template "wall" .}})
    {{- else if eq .Grain "time:minute"}}toString(toStartOfMinute({{template "wall" .}}))
    {{- else if eq .Grain "time:hour"}}toString(toStartOfHour({{template "wall" .}}))
    {{- else if eq .Grain "time:day"}}toString(toDate({{template "wall" .}}))
    {{- else if eq .Grain "time:week"}}toString(greatest(toMonday({{template "wall" .}}), toDate({first_day:String})))
    {{- else if eq .Grain "time:month"}}toString(toStartOfMonth({{template "wall" .}}))
    {{- end}}
{{- end}}

{{- /* The local time, as if it were UTC. The offsets from UTC come from Go, each with the second from which it applies: some that
ClickHouse's timezoneOffset returns are wrong (26.7). */ -}}
{{- define "wall" -}}
    toDateTime(toInt64(toUnixTimestamp({{.Value}})) + transform(roundDown(toInt64(toUnixTimestamp({{.Value}})), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')
{{- end}}

{{- define "filter"}}
    {{- if .Connective}}({{range $i, $f := .Filters}}{{if $i}} {{$.Connective}} {{end}}{{template "filter" $f}}{{end}})
    {{- else if .Negated}}NOT ({{template "comparison" .}})
    {{- else}}{{template "comparison" .}}
    {{- end}}
{{- end}}

{{- define "comparison"}}
    {{- if eq .Op "not"}}{{range .Filters}}{{template "filter" .}}{{end}}
    {{- else if and (eq .Op "is") .IgnoreCase}}lowerUTF8({{template "dimension" .Dimension}}) IN (arrayMap(v -> lowerUTF8(v), { {{- .Param}}:Array(String)}))
    {{- else if eq .Op "is"}}{{template "dimension" .Dimension}} IN { {{- .Param}}:Array(String)}
    {{- else if and (eq .Op "contains") .IgnoreCase}}arrayExists(v -> position(lowerUTF8({{template "dimension" .Dimension}}), lowerUTF8(v)) > 0, { {{- .Param}}:Array(String)})
    {{- else if eq .Op "contains"}}arrayExists(v -> position({{template "dimension" .Dimension}}, v) > 0, { {{- .Param}}:Array(String)})
    {{- else if eq .Op "matches"}}({{range $i, $p := .Params}}{{if $i}} OR {{end}}match({{template "dimension" $.Dimension}}, { {{- $p}}:String}){{end}})
    {{- end}}
{{- end}}
