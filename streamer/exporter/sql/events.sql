SELECT
    ts, day, utc_offset, visitor, user, kind, name, hostname, path, referrer, source, channel, utm_source, utm_medium,
    utm_campaign, utm_content, utm_term, country, region, city, device, screen, browser, browser_version, os, os_version,
    language, props, revenue_micros, currency, scroll_depth, engaged_ms, interactive
FROM events FINAL
WHERE site = {site:String}
    AND toStartOfHour(ts) >= toDateTime({first:UInt32}, 'UTC') AND toStartOfHour(ts) <= toDateTime({last:UInt32}, 'UTC')
    AND ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND day >= {from:Date} AND day <= {to:Date}
ORDER BY site, toStartOfHour(ts), visitor, ts, id
