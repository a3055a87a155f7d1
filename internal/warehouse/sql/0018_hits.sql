-- One row a page view or custom event of a sealed day, with what is known of its visit. Pages and referrers are keys of
-- `names`. n counts the events of the visit, nth those with the same page. next is the page of the visit's next page view.
CREATE TABLE IF NOT EXISTS hits
(
    seal UInt64 CODEC(ZSTD(1)),
    site LowCardinality(String) CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    who UInt32 CODEC(Delta, ZSTD(1)),
    visit UInt16 CODEC(ZSTD(1)),
    alone Bool CODEC(ZSTD(1)),
    n UInt32 CODEC(ZSTD(1)),
    nth UInt32 CODEC(ZSTD(1)),
    ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    utc_offset Int32 CODEC(ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    hostname LowCardinality(String) CODEC(ZSTD(1)),
    page UInt64 CODEC(ZSTD(1)),
    next UInt64 CODEC(ZSTD(1)),
    props Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    engaged_ms UInt32 CODEC(ZSTD(1)),
    scroll_depth UInt8 CODEC(ZSTD(1)),
    revenue_micros Int64 CODEC(ZSTD(1)),
    currency LowCardinality(String) CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    pageviews UInt32 CODEC(ZSTD(1)),
    duration_ms UInt32 CODEC(ZSTD(1)),
    bounced Bool CODEC(ZSTD(1)),
    entry UInt64 CODEC(ZSTD(1)),
    exit UInt64 CODEC(ZSTD(1)),
    source LowCardinality(String) CODEC(ZSTD(1)),
    channel LowCardinality(String) CODEC(ZSTD(1)),
    referrer UInt64 CODEC(ZSTD(1)),
    utm_source LowCardinality(String) CODEC(ZSTD(1)),
    utm_medium LowCardinality(String) CODEC(ZSTD(1)),
    utm_campaign LowCardinality(String) CODEC(ZSTD(1)),
    utm_content LowCardinality(String) CODEC(ZSTD(1)),
    utm_term LowCardinality(String) CODEC(ZSTD(1)),
    country LowCardinality(String) CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    city LowCardinality(String) CODEC(ZSTD(1)),
    device LowCardinality(String) CODEC(ZSTD(1)),
    screen LowCardinality(String) CODEC(ZSTD(1)),
    browser LowCardinality(String) CODEC(ZSTD(1)),
    browser_version LowCardinality(String) CODEC(ZSTD(1)),
    os LowCardinality(String) CODEC(ZSTD(1)),
    os_version LowCardinality(String) CODEC(ZSTD(1)),
    language LowCardinality(String) CODEC(ZSTD(1)),
    user UInt64 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY seal
ORDER BY (site, day, source, country, who, ts)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
