{{- /* The days of a compaction: those that still have the seals which it found. */ -}}
{{- define "pinned" -}}
    seal IN {seals:Array(UInt64)} AND day >= toDate({first:UInt16}) AND day <= toDate({last:UInt16})
    AND (site, day, seal) IN (SELECT site, day, seal FROM seals FINAL WHERE seal IN {seals:Array(UInt64)})
{{- end}}
