-- The ledger's word for an event id that was seen before is "duplicate", as everywhere else.
ALTER TABLE ledger RENAME COLUMN IF EXISTS repeated TO duplicate
