CREATE TABLE IF NOT EXISTS events
(
    site LowCardinality(String),
    ts DateTime64(3, 'UTC'),
    visitor UInt64,
    id FixedString(16),
    kpart UInt16,
    koff UInt64,
    kidx UInt16,
    kind LowCardinality(String),
    name LowCardinality(String),
    hostname LowCardinality(String),
    path String,
    referrer String,
    source LowCardinality(String),
    utm_source LowCardinality(String),
    utm_medium LowCardinality(String),
    utm_campaign LowCardinality(String),
    utm_content LowCardinality(String),
    utm_term LowCardinality(String),
    country LowCardinality(String),
    region LowCardinality(String),
    device LowCardinality(String),
    browser LowCardinality(String),
    browser_version LowCardinality(String),
    os LowCardinality(String),
    os_version LowCardinality(String),
    language LowCardinality(String),
    props Map(String, String),
    revenue_micros Int64,
    currency LowCardinality(String),
    scroll_depth UInt8,
    engaged_ms UInt32,
    interactive Bool,
    late Bool,
    fresh Bool
)
ENGINE = ReplacingMergeTree(fresh)
PARTITION BY toYYYYMM(ts)
ORDER BY (site, toStartOfHour(ts), visitor, ts, id)
TTL toDateTime(ts) + INTERVAL 13 MONTH
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    ttl_only_drop_parts = 1
