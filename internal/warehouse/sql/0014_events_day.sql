-- The site's own day, and its clocks' offset from UTC in seconds, at which ingest received the event. The offset -1 marks a
-- row of before, whose day is UTC's until it is filled in.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS day Date DEFAULT toDate(ts),
    ADD COLUMN IF NOT EXISTS utc_offset Int32 DEFAULT -1,
    ADD COLUMN IF NOT EXISTS user UInt64,
    ADD COLUMN IF NOT EXISTS slice UInt8 ALIAS toUInt8(visitor % 16),
    ADD COLUMN IF NOT EXISTS local DateTime64(3, 'UTC') ALIAS ts + toIntervalSecond(if(utc_offset = -1, 0, utc_offset))
