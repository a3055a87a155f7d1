-- Up to which minute the ledger is rolled up: readers take the minutes before the newest `before` whose `since` has come
-- from ledger_rollup, and the others from ledger.
CREATE TABLE IF NOT EXISTS rolled_up
(
    before DateTime('UTC'),
    since DateTime('UTC')
)
ENGINE = MergeTree
ORDER BY before
SETTINGS
    fsync_after_insert = 1,
    fsync_part_directory = 1
