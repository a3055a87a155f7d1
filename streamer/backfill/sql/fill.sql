ALTER TABLE events
UPDATE
    utc_offset = arrayElement(
        arrayElement({offsets:Array(Array(Int32))}, transform(site, {sites:Array(String)}, {zones:Array(UInt32)}, 1)),
        arrayCount(
            c -> c <= toInt64(toUnixTimestamp(ts)),
            arrayElement({changes:Array(Array(Int64))}, transform(site, {sites:Array(String)}, {zones:Array(UInt32)}, 1)))),
    day = toDate(ts + toIntervalSecond(arrayElement(
        arrayElement({offsets:Array(Array(Int32))}, transform(site, {sites:Array(String)}, {zones:Array(UInt32)}, 1)),
        arrayCount(
            c -> c <= toInt64(toUnixTimestamp(ts)),
            arrayElement({changes:Array(Array(Int64))}, transform(site, {sites:Array(String)}, {zones:Array(UInt32)}, 1))))))
IN PARTITION ID {partition:String}
WHERE utc_offset = -1 AND site IN {sites:Array(String)}
SETTINGS mutations_sync = 2
