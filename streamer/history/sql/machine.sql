SELECT
    toUInt64(intDiv(getSetting('max_threads'), 2)),
    (SELECT count() FROM system.settings WHERE name = 'os_threads_nice_value_query')
