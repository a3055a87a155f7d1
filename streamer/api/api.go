// Package api is the streamer's side of the HTTP contract, streamer/openapi.yaml.
// `make generate` generates it.
package api

//go:generate go tool -modfile=../../deployments/tools/oapi-codegen/go.mod oapi-codegen -config config.yaml ../openapi.yaml
