-- One row a visit of a sealed day. `who` tells the visitors of a site's day apart. `alone` is one with a single visit.
CREATE TABLE IF NOT EXISTS visits
(
    seal UInt64 CODEC(ZSTD(1)),
    site LowCardinality(String) CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    who UInt32 CODEC(Delta, ZSTD(1)),
    visit UInt16 CODEC(ZSTD(1)),
    alone Bool CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    utc_offset Int32 CODEC(ZSTD(1)),
    pageviews UInt32 CODEC(ZSTD(1)),
    events UInt32 CODEC(ZSTD(1)),
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
ORDER BY (site, day, source, country, who, visit)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
