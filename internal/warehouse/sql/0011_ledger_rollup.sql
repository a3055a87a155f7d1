-- The ledger's old rows, summed over partitions and segments: a row has no place in the log. Of two rows of a minute, the
-- one of more segments holds.
CREATE TABLE IF NOT EXISTS ledger_rollup
(
    site LowCardinality(String),
    minute DateTime('UTC'),
    received UInt64,
    counted UInt64,
    late UInt64,
    stale UInt64,
    duplicate UInt64,
    dropped Map(String, UInt64),
    segments UInt64
)
ENGINE = ReplacingMergeTree(segments)
PARTITION BY toYYYYMM(minute)
ORDER BY (site, minute)
TTL minute + INTERVAL 11 YEAR
SETTINGS
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    ttl_only_drop_parts = 1
