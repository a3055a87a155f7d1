INSERT INTO hits (seal, {{.}})
SELECT {to:UInt64}, {{.}}
FROM hits
WHERE {{template "pinned"}}
