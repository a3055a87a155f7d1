// Package e2e tries Nowcast as its users do: over HTTP, with real processes that are killed and started again.
//
// One suite runs in several worlds: everything in one process on the embedded parts, every role a process of its own on real
// Apache Kafka, and containers of the project's own image. A world is a set of addresses, so the tests know no implementation.
// Where a world can't be had (no Java and no Docker) its test says so loudly; with CI set that is a failure.
package e2e
