-- One row a page view or custom event of a sealed day, with what is known of its visit. Pages and referrers are keys of
-- `names`. n counts the events of the visit, nth those with the same page. next is the page of the visit's next page view.
CREATE TABLE IF NOT EXISTS hits
(
    seal UInt64,
    site LowCardinality(String),
    day Date,
    who UInt32,
    visit UInt16,
    alone Bool,
    n UInt32,
    nth UInt32,
    ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    utc_offset Int32,
    kind LowCardinality(String),
    name LowCardinality(String),
    hostname LowCardinality(String),
    page UInt64,
    next UInt64,
    props Map(LowCardinality(String), String),
    engaged_ms UInt32,
    scroll_depth UInt8,
    revenue_micros Int64,
    currency LowCardinality(String),
    start DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    pageviews UInt32,
    duration_ms UInt32,
    bounced Bool,
    entry UInt64,
    exit UInt64,
    source LowCardinality(String),
    channel LowCardinality(String),
    referrer UInt64,
    utm_source LowCardinality(String),
    utm_medium LowCardinality(String),
    utm_campaign LowCardinality(String),
    utm_content LowCardinality(String),
    utm_term LowCardinality(String),
    country LowCardinality(String),
    region LowCardinality(String),
    city LowCardinality(String),
    device LowCardinality(String),
    screen LowCardinality(String),
    browser LowCardinality(String),
    browser_version LowCardinality(String),
    os LowCardinality(String),
    os_version LowCardinality(String),
    language LowCardinality(String),
    user UInt64
)
ENGINE = MergeTree
PARTITION BY seal
ORDER BY (site, day, source, country, who, ts)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
