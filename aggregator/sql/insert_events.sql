INSERT INTO events
(
    site, ts, visitor, id, kpart, koff, kidx, kind, name,
    hostname, path, referrer, source,
    utm_source, utm_medium, utm_campaign, utm_content, utm_term,
    country, region, device, browser, browser_version, os, os_version, language,
    props, revenue_micros, currency, scroll_depth, engaged_ms, interactive, late, fresh,
    channel, city, screen, day, utc_offset, user
)
