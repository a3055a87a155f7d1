INSERT INTO ledger
(
    site, minute, kpart, koff, received, counted, late, stale, duplicate, dropped, version
)
