INSERT INTO marks (site, day, n)
