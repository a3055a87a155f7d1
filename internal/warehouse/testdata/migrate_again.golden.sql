CREATE TABLE IF NOT EXISTS migrations
(
    version UInt32,
    name String,
    applied DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version;

SELECT DISTINCT version FROM migrations ORDER BY version;

CREATE TABLE IF NOT EXISTS ledger
(
    site LowCardinality(String),
    minute DateTime('UTC'),
    kpart UInt16,
    koff UInt64,
    received UInt64,
    counted UInt64,
    late UInt64,
    stale UInt64,
    repeated UInt64,
    dropped Map(String, UInt64),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(minute)
ORDER BY (site, minute, kpart, koff)
TTL minute + INTERVAL 13 MONTH
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    ttl_only_drop_parts = 1;

INSERT INTO migrations (version, name) VALUES (6, 'ledger');

-- The ledger's word for an event id that was seen before is "duplicate", as everywhere else.
ALTER TABLE ledger RENAME COLUMN IF EXISTS repeated TO duplicate;

INSERT INTO migrations (version, name) VALUES (7, 'ledger_duplicate');
