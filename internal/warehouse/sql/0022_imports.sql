-- The imports that count. The id is a hash of the site and of what was sent, so that a file sent twice counts once.
CREATE TABLE IF NOT EXISTS imports
(
    site LowCardinality(String),
    id String,
    batch UInt64,
    format LowCardinality(String),
    name String,
    at DateTime64(3, 'UTC'),
    first Date,
    last Date,
    days UInt32,
    sums UInt64,
    skipped Map(String, UInt64),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (site, id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
