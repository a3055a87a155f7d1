-- Marks the days of which ClickHouse has lost rows: their seal has a broken part, or no rows at all. Without strings
-- or marks it is all days. The number makes a sum that no build has seen.
INSERT INTO marks (site, day, n)
SELECT site, day, 1000000
FROM seals FINAL
WHERE site != '' AND (toString(seal) IN (SELECT assumeNotNull(partition_id) FROM system.detached_parts WHERE database = currentDatabase() AND table IN ('visits', 'hits', 'rollups') AND reason LIKE 'broken%')
    OR (SELECT count() FROM system.detached_parts WHERE database = currentDatabase() AND table IN ('names', 'marks') AND reason LIKE 'broken%') > 0
    OR events > 0 AND toString(seal) NOT IN (SELECT partition_id FROM system.parts WHERE database = currentDatabase() AND table = 'visits' AND active))
