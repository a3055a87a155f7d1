INSERT INTO marks (site, day, n) SELECT {site:String}, {first:Date} + number, 1 FROM numbers({days:UInt32})
