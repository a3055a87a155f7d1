package history

// Database is the ClickHouse of the tests of query_test.
var Database = database
