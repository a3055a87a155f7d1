-- The events of some days of one site. `number` counts visitors, each of whom has the id of one day. A visitor has 1 to 3
-- visits, a visit 1 to 25 pages, and a page a view, mostly an engagement, now and then a custom event. Everything follows
-- from the seed, the chunk and these numbers by hashes, so the same call makes the same rows, which count once.
INSERT INTO events
(
    site, ts, day, utc_offset, visitor, id, kind, name, hostname, path, referrer, source, channel, utm_source,
    utm_medium, utm_campaign, country, region, city, device, screen, browser, browser_version, os, os_version, language,
    props, revenue_micros, currency, scroll_depth, engaged_ms, interactive, fresh
)
WITH
    ['Google', 'Bing', 'DuckDuckGo', 'Hacker News', 'Reddit', 'X', 'Facebook', 'LinkedIn', 'YouTube', 'GitHub', 'Baidu',
        'Yandex', 'Ecosia', 'ChatGPT', 'Perplexity', 'Newsletter'] AS sources,
    ['Organic Search', 'Organic Search', 'Organic Search', 'Organic Social', 'Organic Social', 'Organic Social',
        'Paid Social', 'Organic Social', 'Organic Video', 'Referral', 'Organic Search', 'Organic Search',
        'Organic Search', 'AI', 'AI', 'Email'] AS channels,
    ['US', 'DE', 'GB', 'FR', 'IN', 'BR', 'CA', 'JP', 'ES', 'IT', 'NL', 'AU', 'PL', 'SE', 'CH', 'MX', 'KR', 'TR', 'RU',
        'ID'] AS countries,
    ['en', 'de', 'en', 'fr', 'en', 'pt', 'en', 'ja', 'es', 'it', 'nl', 'en', 'pl', 'sv', 'de', 'es', 'ko', 'tr', 'ru',
        'id'] AS languages,
    [['New York', 'Chicago', 'Austin'], ['Berlin', 'Hamburg', 'Munich'], ['London', 'Manchester', 'Leeds'],
        ['Paris', 'Lyon', 'Nantes'], ['Mumbai', 'Bengaluru', 'Delhi'], ['São Paulo', 'Recife', 'Curitiba'],
        ['Toronto', 'Montreal', 'Vancouver'], ['Tokyo', 'Osaka', 'Sapporo'], ['Madrid', 'Barcelona', 'Valencia'],
        ['Rome', 'Milan', 'Turin'], ['Amsterdam', 'Utrecht', 'Rotterdam'], ['Sydney', 'Melbourne', 'Perth'],
        ['Warsaw', 'Kraków', 'Gdańsk'], ['Stockholm', 'Malmö', 'Uppsala'], ['Zurich', 'Geneva', 'Bern'],
        ['Mexico City', 'Puebla', 'Monterrey'], ['Seoul', 'Busan', 'Incheon'], ['Istanbul', 'Ankara', 'Izmir'],
        ['Moscow', 'Kazan', 'Samara'], ['Jakarta', 'Bandung', 'Surabaya']] AS cities,
    ['/', '/pricing', '/docs', '/blog', '/features', '/docs/install', '/about', '/signup', '/docs/api', '/changelog',
        '/contact', '/login', '/customers', '/security', '/jobs', '/docs/faq'] AS pages,
    ['Signup', 'Outbound Link: Click', 'File Download', 'Purchase', 'Search', 'Video: Play'] AS names
SELECT
    {site:String} AS site,
    fromUnixTimestamp64Milli(midnights[day_index] + ms, 'UTC') AS ts,
    toDate({first:Date} + day_index - 1) AS day,
    {offsets:Array(Int32)}[arrayCount(at -> at <= midnights[day_index] + ms, {changes:Array(Int64)})] AS utc_offset,
    sipHash64({seed:UInt64}, {site:String}, {chunk:UInt64}, n) AS visitor,
    reinterpretAsFixedString(sipHash128({seed:UInt64}, {site:String}, {chunk:UInt64}, n, visit, i, part)) AS id,
    ['pageview', 'engagement', 'custom'][part + 1] AS kind,
    multiIf(part = 0, 'pageview', part = 1, 'engagement', names[1 + rc % 6]) AS name,
    {site:String} AS hostname,
    if(p <= 16, pages[p], concat('/', ['blog', 'docs', 'shop', 'news', 'help', 'product'][1 + p % 6], '/',
        ['how-to-stream', 'what-is-new-in', 'a-guide-to', 'the-story-of', 'moving-to'][1 + p % 5], '-',
        toString(p))) AS path,
    if(direct OR i > 0, '', if(s <= 16, concat('https://www.', lower(replaceAll(sources[s], ' ', '')), '.com/'),
        concat('https://site', toString(s), '.example/post/', toString(hs % 50)))) AS referrer,
    if(direct OR i > 0, '', if(s <= 16, sources[s], concat('site', toString(s), '.example'))) AS source,
    if(i > 0, '', if(direct, 'Direct', if(s <= 16, channels[s], 'Referral'))) AS channel,
    if(tagged AND i = 0, ['google', 'newsletter', 'facebook', 'linkedin'][1 + hs % 4], '') AS utm_source,
    if(tagged AND i = 0, ['cpc', 'email', 'social'][1 + hs % 3], '') AS utm_medium,
    if(tagged AND i = 0, concat('campaign-', toString(hs % 40)), '') AS utm_campaign,
    if(c <= 20, countries[c], concat(char(65 + c % 26), char(65 + intDiv(c, 26) % 26))) AS country,
    concat(country, '-', toString(hv % 16)) AS region,
    if(c <= 20, cities[c][1 + hv % 7 % 3], '') AS city,
    ['Desktop', 'Mobile', 'Tablet'][1 + (hv % 100 >= 50) + (hv % 100 >= 95)] AS device,
    if(device = 'Desktop' AND hv % 3 = 0, 'Laptop', device) AS screen,
    multiIf(
        os = 'iOS', if(taste <= 3, 'Mobile Safari', 'Chrome'),
        os = 'Android', ['Chrome', 'Chrome', 'Samsung Browser', 'Firefox', 'Opera'][taste],
        os = 'macOS', ['Chrome', 'Safari', 'Safari', 'Firefox', 'Edge'][taste],
        ['Chrome', 'Edge', 'Firefox', 'Firefox', 'Opera'][taste]) AS browser,
    concat(toString(120 + toUInt8(pow(20, (intDiv(hv, 7919) % 997) / 997.))), '.0') AS browser_version,
    if(device = 'Desktop', ['Windows', 'macOS', 'Linux'][1 + (hv % 10 >= 6) + (hv % 10 >= 9)],
        ['iOS', 'Android'][1 + (hv % 7 >= 3)]) AS os,
    multiIf(os = 'Windows', '10', os = 'macOS', '10.15', os = 'iOS', concat('18.', toString(intDiv(hv, 104729) % 7)),
        os = 'Android', toString(13 + intDiv(hv, 104729) % 4), '') AS os_version,
    if(c <= 20, languages[c], 'en') AS language,
    if(part = 2, map('plan', ['free', 'pro', 'team', 'enterprise'][1 + rc % 4], 'variant', ['a', 'b'][1 + intDiv(rc, 7) % 2]),
        map()) AS props,
    if(part = 2 AND rc % 6 = 3, (1000 + rc % 20000) * 10000, 0) AS revenue_micros,
    if(revenue_micros > 0, 'EUR', '') AS currency,
    if(part = 1, rc % 101, 0) AS scroll_depth,
    if(part = 1, toUInt32(dwell), 0) AS engaged_ms,
    part != 1 AS interactive,
    1 AS fresh
FROM
(
    SELECT
        *,
        -- hits stay within their day: what would be later is at its end
        least(midnights[day_index + 1] - midnights[day_index] - 1, begin + i * step + part * dwell) AS ms,
        toUInt32(pow({pages:UInt32}, (sipHash64(h, visit, i, 5) % 1000003) / 1000003.)) AS p
    FROM
    (
        SELECT
            n, visit, h, day_index,
            {midnights:Array(Int64)} AS midnights,
            sipHash64(h, 77) AS hv,
            toUInt32(pow(140, (sipHash64(h, 78) % 100003) / 100003.)) AS c,
            toUInt8(pow(6, (intDiv(hv, 1000) % 991) / 991.)) AS taste, -- a rank of 1 to 5 by a power law
            sipHash64(h, visit, 3) AS hs,
            hs % 100 < 40 AS direct,
            toUInt32(pow(300, (intDiv(hs, 1000) % 100003) / 100003.)) AS s,
            hs % 23 = 0 AS tagged,
            toInt64((time_of_day + visit * 9000000 + hs % 3600000) % 80000000) AS begin,
            5000 + sipHash64(h, visit, 9) % 175000 AS step,
            arrayJoin(range(toUInt8(least(25, 1 - 2 * log(((sipHash64(h, visit, 4) % 1000003) + 1) / 1000004.))))) AS i,
            sipHash64(h, visit, i, 6) AS rc,
            1000 + rc % (step - 1000) AS dwell,
            arrayJoin(arrayFilter(x -> x = 0 OR (x = 1 AND rc % 100 < 60) OR (x = 2 AND intDiv(rc, 100) % 100 < 8),
                [0, 1, 2])) AS part
        FROM
        (
            SELECT
                number AS n,
                sipHash64({seed:UInt64}, {site:String}, {chunk:UInt64}, number) AS h,
                arrayFirstIndex(until -> number < until, {visitors:Array(UInt64)}) AS day_index,
                toUInt64((0.5 + 0.28 * (sipHash64(h, 12) % 10007 / 10007. + sipHash64(h, 13) % 10007 / 10007. - 1)
                    + 0.2 * (sipHash64(h, 14) % 10007 / 10007. - 0.5)) * 86400000) AS time_of_day,
                arrayJoin(range(1 + (intDiv(h, 17) % 100 >= 88) + (intDiv(h, 17) % 100 >= 97))) AS visit
            FROM numbers({count:UInt64})
        )
    )
)
SETTINGS max_insert_threads = 1
