-- The strings behind the keys of sealed rows: cityHash64 of the value.
CREATE TABLE IF NOT EXISTS names
(
    site LowCardinality(String) CODEC(ZSTD(1)),
    dim LowCardinality(String) CODEC(ZSTD(1)),
    key UInt64 CODEC(ZSTD(1)),
    value String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (site, dim, key)
SETTINGS index_granularity = 256, fsync_after_insert = 1, fsync_part_directory = 1
