INSERT INTO rollups (seal, site, segment, dim, span, day, hour, key, {{.}})
SELECT {to:UInt64}, site, segment, dim, span, day, hour, key, {{.}}
FROM rollups
WHERE span != 'month' AND {{template "pinned"}}
