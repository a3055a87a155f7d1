SELECT _partition_id AS partition, site, count() AS n
FROM events
WHERE utc_offset = -1
GROUP BY partition, site
ORDER BY partition DESC, site
