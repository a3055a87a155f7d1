-- Where the log has lost records, by partition of the events topic: those with timestamps between `after`, that of the
-- newest record that is left (1970: none is), and `at`. The offset is that of the record that marks the cut.
CREATE TABLE IF NOT EXISTS cuts
(
    kpart UInt16,
    koff UInt64,
    after DateTime64(3, 'UTC'),
    at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (kpart, koff)
TTL toDateTime(at) + INTERVAL 11 YEAR
SETTINGS
    non_replicated_deduplication_window = 100,
    fsync_after_insert = 1,
    fsync_part_directory = 1
