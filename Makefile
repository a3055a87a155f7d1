# Nowcast: `make run` starts everything on this machine, `make test` runs all tests.
# Both set up what they need, and skip what is set up already.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
PLATFORM := $(shell uname -s | tr A-Z a-z)-$(shell uname -m | sed -e s/x86_64/x64/ -e s/aarch64/arm64/)
LIBC     := $(if $(findstring linux,$(PLATFORM)),-gnu,)
CHDB     := deployments/npm/node_modules/@chdb/lib-$(PLATFORM)$(LIBC)/libchdb.so
KAFKA    := internal/e2e/kafkatest/libs
NPM      := npm --no-fund --no-audit --loglevel=error
MODULES  := deployments/tools/licenses internal/schematest/compile streamer/api/apitest/validator
UI       := $(shell find frontend -type f -not -path '*/node_modules/*' -not -path '*/dist/*' \
              -not -path '*/e2e/*' -not -path '*/test-results/*')

export PATH := $(PATH):$(shell go env GOPATH 2>/dev/null)/bin

## help: list the targets
help:
	@echo "Nowcast: web analytics of the present second"; echo
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | awk -F': ' '{ printf "  make %-18s %s\n", $$1, $$2 }'

## run: build and start the whole pipeline on this machine
run: build
	@bin/nowcast all

## build: make bin/nowcast, which embeds dashboard, tracker, country database and list of crawlers
DATA := ingest/enrich/geodata/country.mmdb ingest/enrich/crawlers/crawler-user-agents.json
build: bin/libchdb.so $(DATA) frontend/dist/index.html
	@go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/nowcast ./cmd/nowcast

## test: lint, and test Go with the race detector, frontend, pipeline, browser, real Kafka, containers
test: build lint generate-check test-frontend test-go test-mutations test-e2e test-browser
	@echo "make test: all done"

## lint: check Go with golangci-lint, its import rules included
lint: deployments/tools/golangci-lint
	@for module in . $(MODULES); do \
	  (cd $$module && $(CURDIR)/deployments/tools/golangci-lint run --allow-parallel-runners ./...); \
	done

## generate: write the Go and TypeScript sides of the HTTP contract
generate: frontend/node_modules/.package-lock.json
	go generate ./streamer/...
	$(NPM) --prefix frontend run generate

## licenses: write NOTICE, the licenses of what program, dashboard and image contain
licenses: bin/go-licenses
licenses: frontend/node_modules/.package-lock.json deployments/npm/node_modules/.package-lock.json
	@go run -C deployments/tools/licenses . $(CURDIR) $(CURDIR)/bin/go-licenses >bin/NOTICE
	@mv bin/NOTICE NOTICE

## generate-check: fail when a generated file is out of date
GENERATED := streamer/api/*.gen.go frontend/src/api.gen.ts NOTICE
generate-check:
	@before=$$(cat $(GENERATED) | sha256sum); \
	$(MAKE) --no-print-directory generate licenses >/dev/null; \
	after=$$(cat $(GENERATED) | sha256sum); \
	[ "$$before" = "$$after" ] || { echo "check generated files: out of date: run make generate licenses"; exit 1; }

## test-frontend: check types and style of dashboard and tracker, and run their unit tests
test-frontend: frontend/node_modules/.package-lock.json frontend/dist/index.html
	$(NPM) --prefix frontend run check
	$(NPM) --prefix frontend test

## oracle: compare N=100000 random history queries, over every state of seals, with a count of single events
N ?= 100000
oracle: bin/libchdb.so
	go test -timeout 0 -run TestAnyQuery ./streamer/history -rapid.checks=$(N)

## test-go: test all Go packages but e2e with the race detector
test-go: build
	@for module in $(MODULES); do go build -C $$module -o /dev/null .; done
	go test -race -timeout 20m $$(go list ./... | grep -v internal/e2e)

## test-mutations: break each rule of the fold, of commits and of syncs, one at a time; a test has to notice
test-mutations:
	go test -timeout 30m -run '^TestMutations$$' ./aggregator/fold ./aggregator ./ingest/publisher/spool -mutations

## test-e2e: test the whole pipeline, on embedded parts, on real Apache Kafka, and in containers
test-e2e: build kafka toxiproxy pebble
	go test -timeout 30m -count=1 ./internal/e2e/...

## test-browser: test the dashboard in a real browser, also through nginx (required), Vite and Next.js
test-browser: build frontend/e2e/next/node_modules/.package-lock.json
	$(NPM) --prefix frontend run e2e

## fuzz: run each decoder's fuzzer, or those that match FUZZ, EXECUTIONS (200000) times; print the sum
EXECUTIONS ?= 200000
fuzz:
	@internal/e2e/fuzz/run.sh $(EXECUTIONS) '$(FUZZ)'

## fuzz-http: test the HTTP contract by EXAMPLES (300) generated requests an operation (needs Python 3.10)
EXAMPLES ?= 300
fuzz-http: build
	@internal/e2e/fuzzhttp/run.sh $(EXAMPLES)

## fuzz-fastpath: send REQUESTS (1000000) to the fast path and to net/http, also behind nginx; compare
REQUESTS ?= 1000000
fuzz-fastpath:
	go test -timeout 0 -count=1 -v -run '^TestFastPathDifferential$$' ./internal/httpserver -requests $(REQUESTS)

N    ?= 1000
SPAN ?= 10m
span  = $(if $(filter file,$(origin SPAN)),$(1),$(SPAN))

## model: check the fold on N (1000) random histories with crashes, zombies and late writes
model:
	go test -timeout 0 -count=1 -v -run '^TestModel$$' ./aggregator/fold -histories $(N)

## chaos: inject N (1000) faults into all parts under load, and verify
chaos: build kafka toxiproxy
	go test -timeout 0 -count=1 -v -run TestChaos ./internal/e2e/ -faults $(N)

## chaos-ingest: kill ingest and stop all brokers N (1000) times under load, and verify
chaos-ingest: build kafka toxiproxy
	go test -timeout 0 -count=1 -v -run TestIngestChaos ./internal/e2e/ -kills $(N)

## chaos-power: lose the power of a `nowcast all` N (1000) times under load; damage its files, and verify
chaos-power: build
	go test -timeout 0 -count=1 -v -run '^TestPower$$' ./internal/e2e/ -cuts $(N)

## outage: stop Kafka for 5 minutes under load; each beacon answered 202 has to be in the log once
outage: build kafka
	go test -timeout 0 -count=1 -v -run TestOutage ./internal/e2e/ -outage 5m

## chaos-streams: follow N (1000) streams for SPAN (2m) while streamers are killed; check every second
chaos-streams: build
	go test -timeout 0 -count=1 -v -run '^TestStreams$$' ./internal/e2e/ \
	  -stream-viewers $(N) -stream-span $(call span,2m)

## drain: stop a streamer with N (19500) viewers; measure how fast they move, check every second
drain: build
	go test -timeout 0 -count=1 -v -run '^TestDrain$$' ./internal/e2e/ \
	  -drain-viewers $(if $(filter file,$(origin N)),19500,$(N))

## bench-glass: time from beacon to screen at 1,000 beacons/s, alone and beside 8 clients with heavy queries
bench-glass: build
	go run ./internal/bench glass

## bench-beacons: acknowledged beacons a second by single posts, on embedded parts; cost of --sync always
bench-beacons: build
	go run ./internal/bench beacons

## bench-ingest: cost of a beacon on real Kafka, beside an empty route and kafka-go's Writer
bench-ingest: build kafka
	go test -run '^$$' -bench Beacon -benchmem ./ingest | grep -v '^ok'
	go run ./internal/bench ingest

## overload: send ingest twice its capacity for SPAN (10m)
overload: build kafka
	SPAN=$(SPAN) go run ./internal/bench overload

## bench-registry: CPU of a start with 1,000, 10,000 and 100,000 sites and as many keys, and of a change
bench-registry:
	go test -run '^$$' -bench 'Start|Change' -benchtime 5x ./internal/site | grep -v '^ok'

## bench-idle: memory of all processes when idle
bench-idle: build
	go run ./internal/bench idle

## bench-aggregator: cost of an event in memory, on real Kafka, into ClickHouse, and after a kill -9
bench-aggregator: build kafka
	go test -run '^$$' -bench WindowsLane -benchtime 3000000x ./aggregator | grep -v '^ok'
	go test -run '^$$' -bench Emission -benchtime 10000x ./aggregator | grep -v '^ok'
	go run ./internal/bench aggregator

## bench-history: a page's questions about a past of EVENTS (1000000), beside three other programs' tables
EVENTS ?= 1000000
bench-history: build
	go run ./internal/bench history -events $(EVENTS)

## bench-streamer: memory, CPU, fan-out and latency with VIEWERS (10000), beside the programs PEERS
VIEWERS ?= 10000
PEERS   ?= gin,go-sse,centrifuge,nchan,write
bench-streamer: build
	go build -C internal/bench/peers -o $(CURDIR)/bin/bench-peers .
	go run ./internal/bench streamer -n $(VIEWERS) -peers $(PEERS)

## bench-viewers: 100,000 viewers on this machine for SPAN (10m)
bench-viewers: build
	go run ./internal/bench viewers -span $(call span,10m)

## soak: let viewers come and go for SPAN (2h); measure a streamer's memory, goroutines and files
soak: build
	go run ./internal/bench soak -span $(call span,2h)

## hostile: attack a streamer by clients that never read, slow-loris, headers of 1 MB, aborts, forged ids
hostile: build
	go test -timeout 0 -count=1 -v -run '^TestHostile$$' ./internal/e2e/ -hostile

## image: build the container image nowcast:dev on BASE, an image with glibc
BASE ?= debian:bookworm-slim
image: build
	deployments/image.sh nowcast:dev $(BASE)

## kafka: fetch the jars of Apache Kafka for the tests (needs Maven)
kafka: $(if $(shell command -v mvn),$(KAFKA)/.done,)
	@$(if $(shell command -v mvn),:,echo "kafka: no Maven: tests on real Kafka need its image in Docker")

## toxiproxy: build the proxy that the tests inject faults into connections with
toxiproxy: bin/toxiproxy

## pebble: build the certificate authority that the tests get certificates from
pebble: bin/pebble

## clean: remove built files
clean:
	rm -rf bin frontend/dist/assets frontend/dist/*.* $(KAFKA) deployments/tools/golangci-lint

$(KAFKA)/.done: internal/e2e/kafkatest/pom.xml
	cd internal/e2e/kafkatest && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs
	@touch $@

frontend/node_modules/.package-lock.json: frontend/package.json frontend/package-lock.json
	$(NPM) --prefix frontend ci
	@touch $@

frontend/e2e/next/node_modules/.package-lock.json: frontend/e2e/next/package.json frontend/e2e/next/package-lock.json
	$(NPM) --prefix frontend/e2e/next ci
	@touch $@

deployments/npm/node_modules/.package-lock.json: deployments/npm/package.json deployments/npm/package-lock.json
	@echo "fetching the embedded ClickHouse, the country database and the list of crawlers (180 MB, once)"
	$(NPM) --prefix deployments/npm ci
	@touch $@

bin/libchdb.so: deployments/npm/node_modules/.package-lock.json
	@mkdir -p bin
	@ln -sfn ../$(CHDB) $@

ingest/enrich/geodata/country.mmdb: deployments/npm/node_modules/.package-lock.json
	@cp deployments/npm/node_modules/@ip-location-db/geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb $@

ingest/enrich/crawlers/crawler-user-agents.json: deployments/npm/node_modules/.package-lock.json
	@cp deployments/npm/node_modules/crawler-user-agents/crawler-user-agents.json $@

frontend/dist/index.html: frontend/node_modules/.package-lock.json streamer/openapi.yaml $(UI)
	$(NPM) --prefix frontend run build
	@touch $@

deployments/tools/golangci-lint: deployments/tools/go.mod
	go build -modfile=deployments/tools/go.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

bin/go-licenses: deployments/tools/licenses/go.mod
	go build -modfile=$< -o $@ github.com/google/go-licenses/v2
	@touch $@

bin/toxiproxy: deployments/tools/toxiproxy/go.mod
	go build -modfile=$< -o $@ github.com/Shopify/toxiproxy/v2/cmd/server
	@touch $@

bin/pebble: deployments/tools/pebble/go.mod
	go build -modfile=$< -o $@ github.com/letsencrypt/pebble/v2/cmd/pebble
	@touch $@

.PHONY: help run build test lint generate licenses generate-check test-frontend test-go test-mutations \
  test-e2e test-browser fuzz fuzz-http fuzz-fastpath model chaos chaos-ingest chaos-power outage \
  chaos-streams overload bench-glass \
  bench-beacons bench-ingest bench-idle bench-aggregator bench-history bench-streamer bench-viewers soak hostile drain \
  image kafka toxiproxy pebble clean
