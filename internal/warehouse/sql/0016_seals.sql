-- Which build of a site's day counts: its rows in `visits`, `hits` and `rollups` are those of this seal. It is current while
-- sum(marks.n) is what the build saw. Else the day is read from `events`.
CREATE TABLE IF NOT EXISTS seals
(
    site LowCardinality(String),
    day Date,
    seal UInt64,
    marks UInt64,
    rules UInt16,
    events UInt64,
    digest UInt64,
    rolled Bool,
    monthly Bool,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (site, day)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
