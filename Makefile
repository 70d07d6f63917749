# The product's commands. `make help` lists them; scripts/setup installs with apt
# what a target needs and this machine lacks. Go 1.26 or newer is the one
# prerequisite.

SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin
# A clone that belongs to another user must build too.
export GOFLAGS := $(GOFLAGS) -buildvcs=false
GO ?= go
FUZZTIME ?= 30s
SOAKTIMEOUT ?= 3h
ROUNDS ?= 7
MEMBERS ?= 10000
SEEDS ?= 10000
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help build demo lab lab-case-study lab-down test race model fuzz bench bench-scale soak generate-check lint fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build getvpnd and getvpn into bin/
	@scripts/setup go
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/getvpnd ./cmd/getvpn

demo: ## a whole group in network namespaces, told step by step, under two minutes (root)
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@$(GO) run ./internal/lab/cmd/lab demo

lab: ## the demo's topology, left running; prints how to look around (root)
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@$(GO) run ./internal/lab/cmd/lab up

lab-case-study: ## the vendor's case study, examples/case-study, checked and left running (root)
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@$(GO) run ./internal/lab/cmd/lab case-study

lab-down: ## remove what make lab or make lab-case-study left running (root)
	@$(GO) run ./internal/lab/cmd/lab down

test: ## every test anew, the end-to-end ones in their short form (root)
	@scripts/setup test
	$(GO) test -count=1 -timeout 25m ./...

race: ## unit tests under the race detector
	@scripts/setup race
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v -e /test/ -e /bench)

model: ## the model check of cooperative key servers, SEEDS (10,000) lives
	GETVPN_COOP_SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 30m -run '^TestModel$$' -v ./gdoi/coop

fuzz: ## every fuzz target for FUZZTIME (30s)
	@scripts/setup go
	@scripts/fuzz $(FUZZTIME)

bench: ## throughput, packet rate, round trips beside plain forwarding, wireguard-go and strongSwan (root)
	@scripts/setup bench
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench/ ./bench/gw ./bench/blast ./bench/yardstick/wgo ./bench/measure
	bin/bench/measure -bin bin/bench -rounds $(ROUNDS)

bench-scale: ## a key server with ten thousand members: rekey, registration, a crowd at once, a second one that joins late, beside their bounds (root)
	@scripts/setup demo
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench/ ./bench/scale
	bin/bench/scale -n $(MEMBERS) -rounds $(ROUNDS)

soak: ## the long forms of the end-to-end tests (root)
	@scripts/setup test
	GETVPN_SOAK=1 $(GO) test -count=1 -timeout $(SOAKTIMEOUT) -v ./test/... ./ipsec/dataplane
	@scripts/fuzz $(FUZZTIME)

generate-check: ## generated files are what their sources give
	@scripts/setup go
	$(GO) generate ./...
	git diff --exit-code

lint: ## gofmt, vet, staticcheck, house rules
	@scripts/setup go
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test ./internal/housetest

fmt: ## format every Go file
	gofmt -w .

clean: ## remove what build made
	rm -rf bin
