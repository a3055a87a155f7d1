ALTER TABLE events MODIFY SETTING
    min_bytes_for_wide_part = 268435456,
    min_rows_for_wide_part = 10000000
