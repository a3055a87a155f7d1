-- Seals of a rebuild that is under way.
SELECT toUInt16(day) AS d, seal, version
FROM seals FINAL
WHERE site = ''
