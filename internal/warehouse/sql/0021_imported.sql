-- What other tools counted before: sums by day of the site, dimension ('' for the totals of a day) and value. The bits of
-- `known` say which counts the tool gave: visitors, visits, pageviews, events, bounces, duration_ms, from the lowest. A
-- batch is one attempt of an import, and counts while a row of `imports` names it. Rows of one key add up.
CREATE TABLE IF NOT EXISTS imported
(
    batch UInt64,
    site LowCardinality(String),
    day Date,
    dim LowCardinality(String),
    value String,
    known UInt8,
    visitors UInt64,
    visits UInt64,
    pageviews UInt64,
    events UInt64,
    bounces UInt64,
    duration_ms UInt64,
    at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY batch
ORDER BY (site, dim, day, value)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
