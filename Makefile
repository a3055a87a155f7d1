# Nowcast: `make run` starts everything on this machine, `make test` proves it. Both set up what they need and skip what is there.
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
UI       := $(shell find frontend -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/e2e/*' -not -path '*/test-results/*')

export PATH := $(PATH):$(shell go env GOPATH 2>/dev/null)/bin

## help: say what there is
help:
	@echo "Nowcast: web analytics of the present second"; echo
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | awk -F': ' '{ printf "  make %-18s %s\n", $$1, $$2 }'

## run: build all and start the whole pipeline on this machine
run: build
	@bin/nowcast all

## build: make bin/nowcast, with the dashboard, the tracker, the country database and the list of crawlers inside
build: bin/libchdb.so ingest/geodata/country.mmdb ingest/crawlers/crawler-user-agents.json frontend/dist/index.html
	@go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/nowcast ./cmd/nowcast

## test: everything: lint, Go with the race detector, frontend, whole pipeline, real browser, real Kafka, containers
test: build lint generate-check test-frontend test-go test-e2e test-browser
	@echo "make test: all done"

## lint: golangci-lint with the import rules, vet of the frontend by its own linter
lint: deployments/tools/golangci-lint
	@for module in . $(MODULES); do (cd $$module && $(CURDIR)/deployments/tools/golangci-lint run --allow-parallel-runners ./...); done

## generate: write the Go and TypeScript sides of the HTTP contract
generate: frontend/node_modules/.package-lock.json
	go generate ./streamer/...
	$(NPM) --prefix frontend run generate

## licenses: write NOTICE, the licenses of all that the program, the dashboard and the image hold
licenses: bin/go-licenses frontend/node_modules/.package-lock.json deployments/npm/node_modules/.package-lock.json
	@go run -C deployments/tools/licenses . $(CURDIR) $(CURDIR)/bin/go-licenses >bin/NOTICE
	@mv bin/NOTICE NOTICE

## generate-check: fail when generated files differ from what they are generated from
GENERATED := streamer/api/*.gen.go frontend/src/api.gen.ts NOTICE
generate-check:
	@before=$$(cat $(GENERATED) | sha256sum); \
	$(MAKE) --no-print-directory generate licenses >/dev/null; \
	after=$$(cat $(GENERATED) | sha256sum); \
	[ "$$before" = "$$after" ] || { echo "generated files are out of date: run make generate licenses and commit"; exit 1; }

## test-frontend: types, lint and unit tests of dashboard and tracker
test-frontend: frontend/node_modules/.package-lock.json frontend/dist/index.html
	$(NPM) --prefix frontend run check
	$(NPM) --prefix frontend test

## test-go: all Go packages with the race detector
test-go: build
	@for module in $(MODULES); do go build -C $$module -o /dev/null .; done
	go test -race -timeout 20m $$(go list ./... | grep -v internal/e2e)

## test-e2e: the pipeline through its doors, on embedded parts, on real Apache Kafka and in containers
test-e2e: build kafka toxiproxy
	go test -timeout 30m -count=1 ./internal/e2e/...

## test-browser: the dashboard in a real browser, also through nginx (needs nginx), Vite and Next.js
test-browser: build frontend/e2e/next/node_modules/.package-lock.json
	$(NPM) --prefix frontend run e2e

## fuzz: run every decoder's fuzzer EXECUTIONS (200000) times, or those that match FUZZ alone, and say how many that were in all
EXECUTIONS ?= 200000
fuzz:
	@internal/e2e/fuzz/run.sh $(EXECUTIONS) '$(FUZZ)'

## fuzz-http: hold the running program to its contract with EXAMPLES (300) generated requests an operation (needs python 3.10)
EXAMPLES ?= 300
fuzz-http: build
	@internal/e2e/fuzzhttp/run.sh $(EXAMPLES)

N    ?= 1000
SPAN ?= 10m
span  = $(if $(filter file,$(origin SPAN)),$(1),$(SPAN))

## model: check the protocol of aggregation on N (1000) random histories, with crashes, zombies and late writes
model:
	go test -timeout 0 -count=1 -v -run '^TestModel$$' ./aggregator/fold -histories $(N)

## chaos: kill, stop, cut off and delay everything N (1000) times under load, and verify
chaos: build kafka toxiproxy
	go test -timeout 0 -count=1 -v -run TestChaos ./internal/e2e/ -faults $(N)

## chaos-ingest: kill ingest and take all brokers away N (1000) times under load, and verify
chaos-ingest: build kafka toxiproxy
	go test -timeout 0 -count=1 -v -run TestIngestChaos ./internal/e2e/ -kills $(N)

## outage: take Kafka away for five minutes under load; every beacon answered 202 has to be in the log once
outage: build kafka
	go test -timeout 0 -count=1 -v -run TestOutage ./internal/e2e/ -outage 5m

## chaos-streams: follow N (1000) streams for SPAN (2m) while streamers are killed and stopped, and prove that no second is missed or doubled
chaos-streams: build
	go test -timeout 0 -count=1 -v -run '^TestStreams$$' ./internal/e2e/ -stream-viewers $(N) -stream-span $(call span,2m)

## drain: N viewers (19,500) of a streamer that is told to end: how long until they are at another one, at what pace, and does anybody miss a second?
drain: build
	go test -timeout 0 -count=1 -v -run '^TestDrain$$' ./internal/e2e/ -drain-viewers $(if $(filter file,$(origin N)),19500,$(N))

## bench-glass: time from beacon to glass at 1,000 beacons/s, alone and beside 8 clients with heavy queries, and where it goes
bench-glass: build
	go run ./internal/e2e/bench glass

## bench-beacons: durable beacons a second by single posts, on embedded parts
bench-beacons: build
	go run ./internal/e2e/bench beacons

## bench-ingest: what a beacon costs ingest on real Kafka, beside a route that does nothing and kafka-go's Writer
bench-ingest: build kafka
	go test -run '^$$' -bench Beacon -benchmem ./ingest | grep -v '^ok'
	go run ./internal/e2e/bench ingest

## overload: send ingest twice what it can take for SPAN (10m)
overload: build kafka
	SPAN=$(SPAN) go run ./internal/e2e/bench overload

## bench-idle: memory of everything when idle
bench-idle: build
	go run ./internal/e2e/bench idle

## bench-aggregator: what an event costs the aggregator, in memory, on real Kafka and into ClickHouse, and after a kill -9
bench-aggregator: build kafka
	go test -run '^$$' -bench WindowsLane -benchtime 3000000x ./aggregator | grep -v '^ok'
	go test -run '^$$' -bench Emission -benchtime 10000x ./aggregator | grep -v '^ok'
	go run ./internal/e2e/bench aggregator

## bench-streamer: VIEWERS (10000) of a streamer beside those of PEERS: memory, CPU, fan-out, new connections, record to glass
VIEWERS ?= 10000
PEERS   ?= gin,go-sse,centrifuge,nchan,write
bench-streamer: build
	go build -C internal/e2e/bench/peers -o $(CURDIR)/bin/bench-peers .
	go run ./internal/e2e/bench streamer -n $(VIEWERS) -peers $(PEERS)

## bench-viewers: 100,000 viewers on this machine for SPAN (10m)
bench-viewers: build
	go run ./internal/e2e/bench viewers -span $(call span,10m)

## soak: viewers who come and go for SPAN (2h): does a streamer's memory, do its goroutines or its files grow?
soak: build
	go run ./internal/e2e/bench soak -span $(call span,2h)

## hostile: all who mean ill to a streamer, in full numbers: 10,000 who never read, slow-loris, headers of 1 MB, 100,000 aborts, made-up ids
hostile: build
	go test -timeout 0 -count=1 -v -run '^TestHostile$$' ./internal/e2e/ -hostile

## image: build the container image nowcast:dev from the binary (BASE=a glibc base image)
BASE ?= debian:bookworm-slim
image: build
	deployments/image.sh nowcast:dev $(BASE)

## kafka: fetch the jars of Apache Kafka for the tests (needs mvn)
kafka: $(if $(shell command -v mvn),$(KAFKA)/.done,)
	@$(if $(shell command -v mvn),:,echo "make: no mvn here, so the tests on real Apache Kafka are left out unless Docker has it")

## toxiproxy: build the proxy by which the tests disturb connections
toxiproxy: bin/toxiproxy

## clean: remove what was built
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

ingest/geodata/country.mmdb: deployments/npm/node_modules/.package-lock.json
	@cp deployments/npm/node_modules/@ip-location-db/geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb $@

ingest/crawlers/crawler-user-agents.json: deployments/npm/node_modules/.package-lock.json
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

.PHONY: help run build test lint generate licenses generate-check test-frontend test-go test-e2e test-browser fuzz fuzz-http model chaos chaos-ingest outage chaos-streams overload bench-glass bench-beacons bench-ingest bench-idle bench-aggregator bench-streamer bench-viewers soak hostile drain image kafka toxiproxy clean
