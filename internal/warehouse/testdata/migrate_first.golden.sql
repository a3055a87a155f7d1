CREATE TABLE IF NOT EXISTS migrations
(
    version UInt32,
    name String,
    applied DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version;

SELECT DISTINCT version FROM migrations ORDER BY version;

CREATE TABLE IF NOT EXISTS migrations
(
    version UInt32,
    name String,
    applied DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version;

INSERT INTO migrations (version, name) VALUES (1, 'migrations');

CREATE TABLE IF NOT EXISTS events
(
    site LowCardinality(String),
    ts DateTime64(3, 'UTC'),
    visitor UInt64,
    id FixedString(16),
    kpart UInt16,
    koff UInt64,
    kidx UInt16,
    kind LowCardinality(String),
    name LowCardinality(String),
    hostname LowCardinality(String),
    path String,
    referrer String,
    source LowCardinality(String),
    utm_source LowCardinality(String),
    utm_medium LowCardinality(String),
    utm_campaign LowCardinality(String),
    utm_content LowCardinality(String),
    utm_term LowCardinality(String),
    country LowCardinality(String),
    region LowCardinality(String),
    device LowCardinality(String),
    browser LowCardinality(String),
    browser_version LowCardinality(String),
    os LowCardinality(String),
    os_version LowCardinality(String),
    language LowCardinality(String),
    props Map(String, String),
    revenue_micros Int64,
    currency LowCardinality(String),
    scroll_depth UInt8,
    engaged_ms UInt32,
    interactive Bool,
    late Bool,
    fresh Bool
)
ENGINE = ReplacingMergeTree(fresh)
PARTITION BY toYYYYMM(ts)
ORDER BY (site, toStartOfHour(ts), visitor, ts, id)
TTL toDateTime(ts) + INTERVAL 13 MONTH
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    ttl_only_drop_parts = 1;

INSERT INTO migrations (version, name) VALUES (2, 'events');

CREATE TABLE IF NOT EXISTS windows
(
    site LowCardinality(String),
    second DateTime('UTC'),
    part UInt16,
    pageviews UInt32,
    visitors UInt32,
    events UInt32,
    active UInt32,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(second)
ORDER BY (site, second, part)
TTL second + INTERVAL 7 DAY
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    ttl_only_drop_parts = 1;

INSERT INTO migrations (version, name) VALUES (3, 'windows');

ALTER TABLE events MODIFY SETTING
    min_bytes_for_wide_part = 268435456,
    min_rows_for_wide_part = 10000000;

INSERT INTO migrations (version, name) VALUES (4, 'events_in_compact_parts');

ALTER TABLE events
    ADD COLUMN IF NOT EXISTS channel LowCardinality(String) AFTER source,
    ADD COLUMN IF NOT EXISTS city LowCardinality(String) AFTER region,
    ADD COLUMN IF NOT EXISTS screen LowCardinality(String) AFTER device;

INSERT INTO migrations (version, name) VALUES (5, 'channel_city_screen');

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

-- A site's retention_days says how long its events are kept, and a streamer deletes them. The TTL is behind the longest
-- possible retention.
ALTER TABLE events MODIFY TTL toDateTime(ts) + INTERVAL 11 YEAR;

INSERT INTO migrations (version, name) VALUES (8, 'events_ttl');

-- As that of events.
ALTER TABLE ledger MODIFY TTL minute + INTERVAL 11 YEAR;

INSERT INTO migrations (version, name) VALUES (9, 'ledger_ttl');

-- Which rows the streamers have deleted because they were as old as their site keeps them: those before the newest time.
CREATE TABLE IF NOT EXISTS expired
(
    site String,
    before DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(before)
ORDER BY site;

INSERT INTO migrations (version, name) VALUES (10, 'expired');

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
    ttl_only_drop_parts = 1;

INSERT INTO migrations (version, name) VALUES (11, 'ledger_rollup');

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
    fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (12, 'rolled_up');

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
    fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (13, 'cuts');

-- The site's own day, and its clocks' offset from UTC in seconds, at which ingest received the event. The offset -1 marks a
-- row of before, whose day is UTC's until it is filled in.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS day Date DEFAULT toDate(ts),
    ADD COLUMN IF NOT EXISTS utc_offset Int32 DEFAULT -1,
    ADD COLUMN IF NOT EXISTS user UInt64,
    ADD COLUMN IF NOT EXISTS slice UInt8 ALIAS toUInt8(visitor % 16),
    ADD COLUMN IF NOT EXISTS local DateTime64(3, 'UTC') ALIAS ts + toIntervalSecond(if(utc_offset = -1, 0, utc_offset));

INSERT INTO migrations (version, name) VALUES (14, 'events_day');

-- How often the events of a site and day have changed: whatever changes rows of `events` adds to n afterwards.
CREATE TABLE IF NOT EXISTS marks
(
    site LowCardinality(String),
    day Date,
    n UInt64
)
ENGINE = SummingMergeTree(n)
ORDER BY (site, day)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (15, 'marks');

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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (16, 'seals');

-- One row a visit of a sealed day. `who` tells the visitors of a site's day apart. `alone` is one with a single visit.
CREATE TABLE IF NOT EXISTS visits
(
    seal UInt64 CODEC(ZSTD(1)),
    site LowCardinality(String) CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    who UInt32 CODEC(Delta, ZSTD(1)),
    visit UInt16 CODEC(ZSTD(1)),
    alone Bool CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    utc_offset Int32 CODEC(ZSTD(1)),
    pageviews UInt32 CODEC(ZSTD(1)),
    events UInt32 CODEC(ZSTD(1)),
    duration_ms UInt32 CODEC(ZSTD(1)),
    bounced Bool CODEC(ZSTD(1)),
    entry UInt64 CODEC(ZSTD(1)),
    exit UInt64 CODEC(ZSTD(1)),
    source LowCardinality(String) CODEC(ZSTD(1)),
    channel LowCardinality(String) CODEC(ZSTD(1)),
    referrer UInt64 CODEC(ZSTD(1)),
    utm_source LowCardinality(String) CODEC(ZSTD(1)),
    utm_medium LowCardinality(String) CODEC(ZSTD(1)),
    utm_campaign LowCardinality(String) CODEC(ZSTD(1)),
    utm_content LowCardinality(String) CODEC(ZSTD(1)),
    utm_term LowCardinality(String) CODEC(ZSTD(1)),
    country LowCardinality(String) CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    city LowCardinality(String) CODEC(ZSTD(1)),
    device LowCardinality(String) CODEC(ZSTD(1)),
    screen LowCardinality(String) CODEC(ZSTD(1)),
    browser LowCardinality(String) CODEC(ZSTD(1)),
    browser_version LowCardinality(String) CODEC(ZSTD(1)),
    os LowCardinality(String) CODEC(ZSTD(1)),
    os_version LowCardinality(String) CODEC(ZSTD(1)),
    language LowCardinality(String) CODEC(ZSTD(1)),
    user UInt64 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY seal
ORDER BY (site, day, source, country, who, visit)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (17, 'visits');

-- One row a page view or custom event of a sealed day, with what is known of its visit. Pages and referrers are keys of
-- `names`. n counts the events of the visit, nth those with the same page. next is the page of the visit's next page view.
CREATE TABLE IF NOT EXISTS hits
(
    seal UInt64 CODEC(ZSTD(1)),
    site LowCardinality(String) CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    who UInt32 CODEC(Delta, ZSTD(1)),
    visit UInt16 CODEC(ZSTD(1)),
    alone Bool CODEC(ZSTD(1)),
    n UInt32 CODEC(ZSTD(1)),
    nth UInt32 CODEC(ZSTD(1)),
    ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    utc_offset Int32 CODEC(ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    hostname LowCardinality(String) CODEC(ZSTD(1)),
    page UInt64 CODEC(ZSTD(1)),
    next UInt64 CODEC(ZSTD(1)),
    props Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    engaged_ms UInt32 CODEC(ZSTD(1)),
    scroll_depth UInt8 CODEC(ZSTD(1)),
    revenue_micros Int64 CODEC(ZSTD(1)),
    currency LowCardinality(String) CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    pageviews UInt32 CODEC(ZSTD(1)),
    duration_ms UInt32 CODEC(ZSTD(1)),
    bounced Bool CODEC(ZSTD(1)),
    entry UInt64 CODEC(ZSTD(1)),
    exit UInt64 CODEC(ZSTD(1)),
    source LowCardinality(String) CODEC(ZSTD(1)),
    channel LowCardinality(String) CODEC(ZSTD(1)),
    referrer UInt64 CODEC(ZSTD(1)),
    utm_source LowCardinality(String) CODEC(ZSTD(1)),
    utm_medium LowCardinality(String) CODEC(ZSTD(1)),
    utm_campaign LowCardinality(String) CODEC(ZSTD(1)),
    utm_content LowCardinality(String) CODEC(ZSTD(1)),
    utm_term LowCardinality(String) CODEC(ZSTD(1)),
    country LowCardinality(String) CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    city LowCardinality(String) CODEC(ZSTD(1)),
    device LowCardinality(String) CODEC(ZSTD(1)),
    screen LowCardinality(String) CODEC(ZSTD(1)),
    browser LowCardinality(String) CODEC(ZSTD(1)),
    browser_version LowCardinality(String) CODEC(ZSTD(1)),
    os LowCardinality(String) CODEC(ZSTD(1)),
    os_version LowCardinality(String) CODEC(ZSTD(1)),
    language LowCardinality(String) CODEC(ZSTD(1)),
    user UInt64 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY seal
ORDER BY (site, day, source, country, who, ts)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (18, 'hits');

-- Exact sums by one dimension's value, of the hours, days and months of sealed days. dim is '' for the totals, which alone
-- have hours. key is of `names`. Visits are those that began in the span. `entries`, `bounces` and `duration_ms` are of the
-- visits that entered on the page where dim is 'page', and else of all. `views` are the page views of all visits.
CREATE TABLE IF NOT EXISTS rollups
(
    seal UInt64 CODEC(ZSTD(1)),
    site LowCardinality(String) CODEC(ZSTD(1)),
    segment UInt64 CODEC(ZSTD(1)),
    dim LowCardinality(String) CODEC(ZSTD(1)),
    span Enum8('hour' = 0, 'day' = 1, 'month' = 2) CODEC(ZSTD(1)),
    day Date CODEC(ZSTD(1)),
    hour UInt8 CODEC(ZSTD(1)),
    key UInt64 CODEC(ZSTD(1)),
    visitors UInt64 CODEC(ZSTD(1)),
    visits UInt64 CODEC(ZSTD(1)),
    pageviews UInt64 CODEC(ZSTD(1)),
    events UInt64 CODEC(ZSTD(1)),
    views UInt64 CODEC(ZSTD(1)),
    entries UInt64 CODEC(ZSTD(1)),
    bounces UInt64 CODEC(ZSTD(1)),
    duration_ms UInt64 CODEC(ZSTD(1)),
    engaged_ms UInt64 CODEC(ZSTD(1)),
    engaged_visits UInt64 CODEC(ZSTD(1)),
    scroll_depth UInt64 CODEC(ZSTD(1)),
    scrolled_visits UInt64 CODEC(ZSTD(1)),
    exits UInt64 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY seal
ORDER BY (site, segment, dim, span, day, hour, key)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (19, 'rollups');

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
SETTINGS index_granularity = 256, fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO migrations (version, name) VALUES (20, 'names');
