package history

// Database is the ClickHouse of the tests of query_test.
var Database = database

// InsertCuts stores the cuts of the tests.
var InsertCuts = insertCuts
