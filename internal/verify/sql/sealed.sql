-- The sealed days that touch a span and are current, each with what its seal says and has, and what its events are.
WITH
    current AS
    (
        SELECT site, day, seal, events, digest
        FROM
        (
            SELECT site, day, seal, events, digest, marks
            FROM seals FINAL
            WHERE day >= toDate(fromUnixTimestamp64Milli({from:Int64}, 'UTC')) - 1 AND day <= toDate(fromUnixTimestamp64Milli({to:Int64}, 'UTC')) + 1
                AND (empty({sites:Array(String)}) OR site IN {sites:Array(String)})
        )
        WHERE (site, day, marks) IN (SELECT site, day, sum(n) FROM marks GROUP BY site, day)
    )
SELECT
    site, toInt64(day) * 86400, sum(sealed), sum(stored), sum(sealed_digest) = sum(stored_digest), sum(counted), sum(hits), sum(of_visits)
FROM
(
    SELECT site, day, events AS sealed, digest AS sealed_digest, toUInt64(0) AS stored, toUInt64(0) AS stored_digest, toUInt64(0) AS counted, toUInt64(0) AS hits, toUInt64(0) AS of_visits
    FROM current
    UNION ALL
    SELECT site, day, 0, 0, count(), sum(cityHash64(id)), countIf(kind != 'engagement'), 0, 0
    FROM events FINAL
    WHERE toStartOfHour(ts) >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') - INTERVAL 3 DAY AND toStartOfHour(ts) <= fromUnixTimestamp64Milli({to:Int64}, 'UTC') + INTERVAL 3 DAY
        AND (site, day) IN (SELECT site, day FROM current)
    GROUP BY site, day
    UNION ALL
    SELECT site, day, 0, 0, 0, 0, 0, count(), 0
    FROM hits
    WHERE (site, day, seal) IN (SELECT site, day, seal FROM current)
    GROUP BY site, day
    UNION ALL
    SELECT site, day, 0, 0, 0, 0, 0, 0, sum(visits.events)
    FROM visits
    WHERE (site, day, seal) IN (SELECT site, day, seal FROM current)
    GROUP BY site, day
)
GROUP BY site, day
ORDER BY site, day
SETTINGS do_not_merge_across_partitions_select_final = 1
