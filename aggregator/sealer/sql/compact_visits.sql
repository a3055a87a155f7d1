INSERT INTO visits (seal, {{.}})
SELECT {to:UInt64}, {{.}}
FROM visits
WHERE {{template "pinned"}}
