-- Which rows the streamers have deleted because they were as old as their site keeps them: those before the newest time.
CREATE TABLE IF NOT EXISTS expired
(
    site String,
    before DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(before)
ORDER BY site
