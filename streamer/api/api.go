// Package api is the streamer's side of the HTTP contract, generated from streamer/openapi.yaml. `make generate` writes it again.
package api

//go:generate go tool -modfile=../../deployments/tools/oapi-codegen/go.mod oapi-codegen -config config.yaml ../openapi.yaml
