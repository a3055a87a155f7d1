-- How often the events of a site and day have changed: whatever changes rows of `events` adds to n afterwards.
CREATE TABLE IF NOT EXISTS marks
(
    site LowCardinality(String),
    day Date,
    n UInt64
)
ENGINE = SummingMergeTree(n)
ORDER BY (site, day)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
