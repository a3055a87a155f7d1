CREATE TABLE umami_event
(
    website_id LowCardinality(String),
    session_id UInt64,
    visit_id UInt64,
    event_id UInt64,
    hostname LowCardinality(String),
    browser LowCardinality(String),
    os LowCardinality(String),
    device LowCardinality(String),
    country LowCardinality(String),
    city String,
    url_path String,
    referrer_domain String,
    utm_campaign String,
    event_type UInt32,
    event_name String,
    plan String,
    created_at DateTime('UTC')
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(created_at)
ORDER BY (toStartOfHour(created_at), website_id, session_id, visit_id, created_at)
PRIMARY KEY (toStartOfHour(created_at), website_id, session_id, visit_id);

INSERT INTO umami_event
SELECT site, visitor, session, cityHash64(visitor, ts, kind), hostname, browser, os, device, country, city, path, source, utm_campaign, if(kind = 'pageview', 1, 2), name, props['plan'], ts
FROM peer_events WHERE kind != 'engagement'
