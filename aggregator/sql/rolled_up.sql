SELECT
    toInt64(toUnixTimestamp(max(before))) AS newest,
    toInt64(toUnixTimestamp(maxIf(before, since <= now() - INTERVAL 1 HOUR))) AS settled
FROM rolled_up
