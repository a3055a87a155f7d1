INSERT INTO seals (site, day, seal, marks, rules, events, digest, rolled, monthly, version)
