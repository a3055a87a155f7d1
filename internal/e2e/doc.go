// Package e2e tests Nowcast as its users see it: over HTTP, with real processes that are killed and
// restarted.
//
// One suite runs in several worlds: all roles in one process on the embedded parts, each role a process of
// its own on real Apache Kafka, and containers of the project's image. A world is a set of addresses, so
// the tests know no implementation. A test whose world needs a missing Java or Docker is skipped with the
// reason; with CI set it fails.
package e2e
