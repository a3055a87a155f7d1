-- One row a visit of a sealed day. `who` tells the visitors of a site's day apart. `alone` is one with a single visit.
CREATE TABLE IF NOT EXISTS visits
(
    seal UInt64,
    site LowCardinality(String),
    day Date,
    who UInt32,
    visit UInt16,
    alone Bool,
    start DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    utc_offset Int32,
    pageviews UInt32,
    events UInt32,
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
ORDER BY (site, day, source, country, who, visit)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
