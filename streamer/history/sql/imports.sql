{{- /* The first and last days of a site's imports. */ -}}
SELECT toUInt16(first), toUInt16(last)
FROM imports FINAL
WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({imports_since:Int64}, 'UTC')
