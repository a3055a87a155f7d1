SELECT
    site, toUnixTimestamp64Milli(ts), visitor, koff, kidx, kind, name,
    hostname, path, referrer, source,
    utm_source, utm_medium, utm_campaign, utm_content, utm_term,
    country, region, device, browser, browser_version, os, os_version, language,
    props, revenue_micros, currency, scroll_depth, engaged_ms, interactive, late, fresh, channel, city, screen,
    toUInt32(day), utc_offset, user
FROM events FINAL
WHERE kpart = {partition:UInt16}
    AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({from:Int64}, 'UTC'))
    AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({to:Int64}, 'UTC'))
    AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
    AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
