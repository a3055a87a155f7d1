INSERT INTO imports
(site, id, batch, format, name, at, first, last, days, sums, skipped, version)
