CREATE TABLE plausible_events
(
    name LowCardinality(String),
    site_id LowCardinality(String),
    hostname String CODEC(ZSTD(3)),
    pathname String CODEC(ZSTD(3)),
    user_id UInt64,
    session_id UInt64,
    timestamp DateTime('UTC') CODEC(Delta(4), LZ4),
    `meta.key` Array(String) CODEC(ZSTD(3)),
    `meta.value` Array(String) CODEC(ZSTD(3)),
    referrer_source String CODEC(ZSTD(3)),
    country_code LowCardinality(FixedString(2))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (site_id, toDate(timestamp), name, user_id, timestamp);

CREATE TABLE plausible_sessions
(
    session_id UInt64,
    sign Int8,
    site_id LowCardinality(String),
    user_id UInt64,
    start DateTime('UTC') CODEC(Delta(4), LZ4),
    is_bounce UInt8,
    entry_page String CODEC(ZSTD(3)),
    exit_page String CODEC(ZSTD(3)),
    pageviews Int32,
    events Int32,
    duration UInt32,
    referrer String CODEC(ZSTD(3)),
    referrer_source String CODEC(ZSTD(3)),
    acquisition_channel LowCardinality(String),
    utm_campaign String CODEC(ZSTD(3)),
    country_code LowCardinality(FixedString(2)),
    city String CODEC(ZSTD(3)),
    screen_size LowCardinality(String),
    operating_system LowCardinality(String),
    browser LowCardinality(String)
)
ENGINE = VersionedCollapsingMergeTree(sign, events)
PARTITION BY toYYYYMM(start)
ORDER BY (site_id, toDate(start), user_id, session_id);

INSERT INTO plausible_events
SELECT name, site, hostname, path, visitor, session, ts, mapKeys(props), mapValues(props), source, toFixedString(country, 2)
FROM peer_events WHERE kind != 'engagement';

INSERT INTO plausible_sessions
SELECT session, 1, site, visitor, min(ts), countIf(kind = 'pageview') <= 1 AND countIf(kind = 'custom') = 0, argMinIf(path, ts, kind = 'pageview'),
    argMaxIf(path, ts, kind = 'pageview'), countIf(kind = 'pageview'), countIf(kind != 'engagement'), dateDiff('second', min(ts), max(ts)),
    argMin(referrer, ts), argMin(source, ts), argMin(channel, ts), argMin(utm_campaign, ts), toFixedString(argMin(country, ts), 2), argMin(city, ts), argMin(device, ts),
    argMin(os, ts), argMin(browser, ts)
FROM peer_events GROUP BY site, visitor, session
