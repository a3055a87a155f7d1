-- The strings of the other dimensions that are rolled up.
INSERT INTO names (site, dim, key, value)
SELECT DISTINCT site, n.1, cityHash64(n.2), n.2
FROM
(
    SELECT site, arrayJoin([{{range $i, $d := .}}{{if $i}}, {{end}}('{{$d}}', toString({{$d}})){{end}}]) AS n
    FROM visits
    WHERE seal = {seal:UInt64} AND {{template "rolled"}}
    UNION ALL
    SELECT site, arrayJoin([('name', toString(name)), ('hostname', toString(hostname))]) AS n
    FROM hits
    WHERE seal = {seal:UInt64} AND {{template "rolled"}}
)
