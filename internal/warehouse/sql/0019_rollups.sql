-- Exact sums by one dimension's value, of the hours, days and months of sealed days. dim is '' for the totals, which alone
-- have hours. key is of `names`. Visits are those that began in the span. `entries`, `bounces` and `duration_ms` are of the
-- visits that entered on the page where dim is 'page', and else of all. `views` are the page views of all visits.
CREATE TABLE IF NOT EXISTS rollups
(
    seal UInt64 CODEC(ZSTD(1)),
    site LowCardinality(String) CODEC(ZSTD(1)),
    segment UInt64 CODEC(ZSTD(1)),
    dim LowCardinality(String) CODEC(ZSTD(1)),
    span Enum8('hour' = 0, 'day' = 1, 'month' = 2) CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    hour UInt8 CODEC(ZSTD(1)),
    key UInt64 CODEC(ZSTD(1)),
    visitors UInt64 CODEC(ZSTD(1)),
    visits UInt64 CODEC(ZSTD(1)),
    pageviews UInt64 CODEC(ZSTD(1)),
    events UInt64 CODEC(ZSTD(1)),
    views UInt64 CODEC(ZSTD(1)),
    entries UInt64 CODEC(ZSTD(1)),
    bounces UInt64 CODEC(ZSTD(1)),
    duration_ms UInt64 CODEC(ZSTD(1)),
    engaged_ms UInt64 CODEC(ZSTD(1)),
    engaged_visits UInt64 CODEC(ZSTD(1)),
    scroll_depth UInt64 CODEC(ZSTD(1)),
    scrolled_visits UInt64 CODEC(ZSTD(1)),
    exits UInt64 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY seal
ORDER BY (site, segment, dim, span, day, hour, key)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
