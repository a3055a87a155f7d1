ALTER TABLE events
    ADD COLUMN IF NOT EXISTS channel LowCardinality(String) AFTER source,
    ADD COLUMN IF NOT EXISTS city LowCardinality(String) AFTER region,
    ADD COLUMN IF NOT EXISTS screen LowCardinality(String) AFTER device
