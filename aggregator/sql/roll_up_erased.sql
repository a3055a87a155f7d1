ALTER TABLE ledger_rollup
DELETE WHERE arrayExists((s, b) -> s = site AND toUnixTimestamp(minute) * 1000 < b, {sites:Array(String)}, {befores:Array(Int64)})
SETTINGS mutations_sync = 2
