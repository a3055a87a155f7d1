ALTER TABLE ledger
DELETE WHERE minute < fromUnixTimestamp({before:Int64})
SETTINGS mutations_sync = 2
