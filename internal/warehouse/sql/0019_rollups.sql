-- Exact sums by one dimension's value, of the hours, days and months of sealed days. dim is '' for the totals, which alone
-- have hours. key is of `names`. Visits are those that began in the span. `entries`, `bounces` and `duration_ms` are of the
-- visits that entered on the page where dim is 'page', and else of all. `views` are the page views of all visits.
CREATE TABLE IF NOT EXISTS rollups
(
    seal UInt64,
    site LowCardinality(String),
    segment UInt64,
    dim LowCardinality(String),
    span Enum8('hour' = 0, 'day' = 1, 'month' = 2),
    day Date,
    hour UInt8,
    key UInt64,
    visitors UInt64,
    visits UInt64,
    pageviews UInt64,
    events UInt64,
    views UInt64,
    entries UInt64,
    bounces UInt64,
    duration_ms UInt64,
    engaged_ms UInt64,
    engaged_visits UInt64,
    scroll_depth UInt64,
    scrolled_visits UInt64,
    exits UInt64
)
ENGINE = MergeTree
PARTITION BY seal
ORDER BY (site, segment, dim, span, day, hour, key)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
