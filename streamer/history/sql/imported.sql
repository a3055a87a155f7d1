{{- /* The part of what other tools counted, as sums by day. The tables know which counts a tool gave: a metric of a group is null
unless all that was imported of the group has its counts. These bits are visitors 1, visits 2, pageviews 4, events 8, bounces 16
and duration 32; s_known has those of the metrics: bounce_rate 16, visit_duration 32, views_per_visit 64, and 128 for those that
no tool gives. What Nowcast counted itself has all of them. */ -}}
{{- define "imported"}}
    SELECT
    {{- range $i, $d := .Dimensions}}
        {{if .Names}}cityHash64(r{{$i}}) AS d{{$i}}, any(r{{$i}}) AS n{{$i}},
        {{- else}}r{{$i}} AS d{{$i}},
        {{- end}}
    {{- end}}
    {{- range .Sums}}
        {{if .Absent}}toUInt64(0){{else}}{{template "imported sum" .}}{{end}} AS s_{{.Name}},
    {{- end}}
        {{if .Apart}}toUInt64(0){{else}}count(){{end}} AS s_rows,
        groupBitAnd(toUInt8({{template "imported known" .}})) AS s_known
    FROM
    (
        SELECT
        {{- range $i, $d := .Dimensions}}
            {{template "dimension" $d}} AS r{{$i}},
        {{- end}}
            batch,
            day,
            groupBitOr(known) AS bits,
            sum(visitors) AS i_visitors,
            sum(visits) AS i_visits,
            sum(pageviews) AS i_pageviews,
            sum(events) AS i_events,
            sum(bounces) AS i_bounces,
            sum(duration_ms) AS i_duration_ms
        FROM imported
        WHERE dim = { {{- .Dim}}:String} AND {{template "imported days"}}
        GROUP BY {{range $i, $d := .Dimensions}}r{{$i}}, {{end}}batch, day
        {{- if .OnlyVisits}}
        HAVING i_visits > 0 OR bitAnd(bits, 2) = 0
        {{- end}}
    )
    {{- if .Dimensions}}
    GROUP BY {{range $i, $d := .Dimensions}}{{if $i}}, {{end}}d{{$i}}{{end}}
    {{- end}}
{{- end}}

{{- define "imported days" -}}
    site = {site:String} AND day >= {imported_from:Date} AND day <= {imported_to:Date} AND batch IN (SELECT batch FROM imports FINAL WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({imports_since:Int64}, 'UTC'))
{{- end}}

{{- define "imported sum" -}}
    {{if eq .Name "views"}}sum(i_pageviews)
    {{- else if eq .Name "entries"}}sum(i_visits)
    {{- else if or (eq .Name "visitors") (eq .Name "visits") (eq .Name "pageviews") (eq .Name "events") (eq .Name "bounces") (eq .Name "duration_ms")}}sum(i_{{.Name}})
    {{- else}}toUInt64(0)
    {{- end}}
{{- end}}

{{- /* The visitors of a total are not known if an import has rows of a day, but no total. Sums by page have no bounces and durations of visits: these are with the pages on which visits entered. A page of a day of
which an import has such pages, but not this one, is one on which nobody entered. */ -}}
{{- define "imported known" -}}
    {{if .Totals}}if((batch, day) IN (SELECT batch, day FROM imported WHERE dim = { {{- .Totals}}:String} AND {{template "imported days"}}), 255, 254)
    {{- else if .Entries}}bitOr(bitAnd(bits, 15), if((batch, day) IN (SELECT batch, day FROM imported WHERE dim = { {{- .Entries}}:String} AND {{template "imported days"}}), 48, 0))
    {{- else if .Apart}}bitOr(207, if(bitAnd(bits, 2) = 2, bitAnd(bits, 48), 0))
    {{- else if .OfEvents}}bitOr(bitAnd(bits, 15), if(bitAnd(bits, 2) = 2, bitAnd(bits, 48), 0))
    {{- else}}bitOr(bitAnd(bits, 15), if(bitAnd(bits, 2) = 2, bitOr(bitAnd(bits, 48), if(bitAnd(bits, 4) = 4, 64, 0)), 0))
    {{- end}}
{{- end}}

{{- /* The bit of a metric. */ -}}
{{- define "known bit" -}}
    {{if eq . "visitors"}}1
    {{- else if eq . "visits"}}2
    {{- else if eq . "pageviews"}}4
    {{- else if eq . "events"}}8
    {{- else if eq . "bounce_rate"}}16
    {{- else if eq . "visit_duration"}}32
    {{- else if eq . "views_per_visit"}}64
    {{- else}}128
    {{- end}}
{{- end}}
