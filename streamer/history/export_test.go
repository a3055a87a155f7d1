package history

// Database is the ClickHouse of the tests of query_test.
var Database = database

// Operations are the operations of filters.
var Operations = operations

// InsertCuts stores the cuts of the tests.
var InsertCuts = insertCuts
