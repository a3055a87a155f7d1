INSERT INTO imported
(batch, site, day, dim, value, known, visitors, visits, pageviews, events, bounces, duration_ms, at)
