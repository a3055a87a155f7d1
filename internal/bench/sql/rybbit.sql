CREATE TABLE rybbit_events
(
    site_id LowCardinality(String),
    timestamp DateTime('UTC'),
    session_id String,
    user_id String,
    hostname String,
    pathname String,
    referrer String,
    channel String,
    browser LowCardinality(String),
    operating_system LowCardinality(String),
    country LowCardinality(FixedString(2)),
    city String,
    device_type LowCardinality(String),
    url_parameters Map(String, String),
    type LowCardinality(String),
    event_name String,
    props Map(String, String)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (site_id, timestamp);

INSERT INTO rybbit_events
SELECT site, ts, lower(hex(session)), lower(hex(visitor)), hostname, path, source, channel, browser, os, toFixedString(country, 2), city, device,
    if(utm_campaign = '', map(), map('utm_campaign', utm_campaign)), if(kind = 'pageview', 'pageview', 'custom_event'), name, props
FROM peer_events WHERE kind != 'engagement'
