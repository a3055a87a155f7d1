CREATE TABLE IF NOT EXISTS migrations
(
    version UInt32,
    name String,
    applied DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version;

SELECT DISTINCT version FROM migrations ORDER BY version;
