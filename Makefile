# The two commands a newcomer needs are `make run` and `make test`.
.DEFAULT_GOAL := help

GO ?= go
# Packages whose tests also run under the race detector: the ones that start goroutines or share memory.
RACE := ./pkg/... ./internal/auth/... ./internal/coarse/... ./internal/ingest/... ./internal/kafka/... ./internal/pipeline/... \
	./internal/sink/... ./internal/tenants/... ./internal/units/... ./internal/demo/... ./internal/live/... ./internal/notify/... ./internal/query/querylog/...
TEST_TIMEOUT ?= 20m
# Tests on fake time: the tag makes the locks of the Kafka client visible to it.
SIMULATE := CGO_ENABLED=0 $(GO) test -tags synctests -timeout $(TEST_TIMEOUT)
SCHEDULES ?= 2000
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD := CGO_ENABLED=0 $(GO) build -ldflags '-s -w -X main.version=$(VERSION)'

.PHONY: help run test race sim sim-scale fuzz build fmt lint chaos figures bench bench-full bench-hostile bench-fresh bench-page bench-query bench-query-page microbench docs clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

run: build ## Build and run the whole of Vigie on this machine, fed with live data (Ctrl-C ends it)
	@./bin/vigie dev

test: ## Run every test against real parts: ClickHouse, a Kafka broker, the built programs
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) test -timeout $(TEST_TIMEOUT) ./...
	$(SIMULATE) ./internal/simulation -run 'TestScenarios|TestSchedules|TestFleet'
	$(SIMULATE) ./internal/kafka -run 'Simulated|PartitionsOfADeadWorker'
	@$(MAKE) --no-print-directory race

race: ## Run the tests of concurrent packages under the race detector (needs a C compiler)
	@if command -v cc >/dev/null 2>&1; then \
		echo 'CGO_ENABLED=1 $(GO) test -race -short -timeout $(TEST_TIMEOUT) $(RACE)'; \
		CGO_ENABLED=1 $(GO) test -race -short -timeout $(TEST_TIMEOUT) $(RACE); \
	elif [ -n "$$CI" ]; then \
		echo 'FAIL: no C compiler (cc) found, and the race detector needs one' >&2; exit 1; \
	else \
		echo '*** SKIPPED: the race detector needs a C compiler (cc), and there is none ***' >&2; \
	fi

N ?= 100
SEED ?= 1
PROTOCOL ?= classic
BROKERS ?= 1

chaos: ## Kill workers, ClickHouse and the broker N times under load (SEED=1 repeats a run), and count what was lost
	@out=$$(mktemp); VIGIE_CHAOS_KILLS=$(N) VIGIE_CHAOS_SEED=$(SEED) VIGIE_CHAOS_PROTOCOL=$(PROTOCOL) VIGIE_CHAOS_BROKERS=$(BROKERS) VIGIE_CHAOS_SUMMARY=$$out CGO_ENABLED=0 \
		$(GO) test -count=1 -v -timeout 12h -run '^TestChaos$$' ./internal/e2e; code=$$?; cat $$out; rm -f $$out; exit $$code

figures: ## Measure restarts, gaps, backlogs, a backfill beside live traffic and a spread tenant of the built programs (minutes; a quiet machine helps)
	VIGIE_FIGURES=1 CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 1h -run '^(TestFigures|TestHotTenant)' ./internal/e2e

sim: ## Run random schedules of faults on fake time (SCHEDULES=N, default 2000; docs/simulation.md)
	$(SIMULATE) ./internal/simulation -run 'TestScenarios|TestSchedules' -count=1 -v -base=0 -schedules=$(SCHEDULES)

sim-scale: ## Run 200 workers on 2,000 partitions through restarts and a lost zone on fake time (docs/scaling.md; 15 minutes, 8 GB)
	$(SIMULATE) ./internal/simulation -run '^TestFleet$$' -count=1 -v -workers=200

FUZZTIME ?= 20s
FUZZ ?= Fuzz
# Go shortens each input that reaches new code, by default for up to a minute, and runs no others meanwhile: where inputs
# have a kilobyte it did nothing else.
fuzz: ## Run each fuzz target for FUZZTIME (20s; FUZZ=Decode: those with that in their names)
	@grep -r '^func Fuzz' --include='*_test.go' . | sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | grep -E ' .*($(FUZZ))' | \
		while read -r package target; do \
			echo "== $$target of $$package"; \
			CGO_ENABLED=0 $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package </dev/null || exit 1; \
		done

build: ## Build the programs into bin/
	@mkdir -p bin
	@echo 'building bin/vigie, bin/ingest, bin/stream, bin/query (the first build takes some minutes)'
	@$(BUILD) -o bin/ ./cmd/...

fmt: ## Format the Go sources
	$(GO) fmt ./...

lint: ## Check with gofmt, vet and staticcheck
	@unformatted=$$(gofmt -l bench cmd internal pkg migrations proto); \
		if [ -n "$$unformatted" ]; then echo "not formatted (make fmt): $$unformatted" >&2; exit 1; fi
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) tool staticcheck ./...

bench: ## Compare Vigie with its peers, in turns over one Kafka log (15 minutes; bench/README.md)
	@mkdir -p bench/results
	VIGIE_BENCH_RUNS=$(CURDIR)/bench/results/runs.jsonl CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 6h -run '^TestCompare$$' ./bench/compare
	@$(MAKE) --no-print-directory bench-page

bench-full: ## The same with five rounds, a million series and every kind of log (hours)
	VIGIE_BENCH_ROUNDS=5 VIGIE_BENCH_CASES="json/10000 json/100000 json/1000000 json/100000/dense json/100000/zipf json/100000/churn otlp/10000 otlp/100000" $(MAKE) bench

bench-hostile: ## The same with logs of hostile and unlucky producers beside tame ones (20 minutes)
	VIGIE_BENCH_ROUNDS=1 VIGIE_BENCH_PEERS=vigie VIGIE_BENCH_EVENTS=3000000 VIGIE_BENCH_CASES="json/10000 json/10000/unique json/10000/beyond \
		json/10000/shuffled json/10000/escaped json/10000/broken json/10000/anytime protobuf/10000 protobuf/10000/unique protobuf/10000/beyond \
		protobuf/10000/shuffled protobuf/10000/broken otlp/10000 otlp/10000/unique otlp/10000/beyond otlp/10000/shuffled otlp/10000/broken" $(MAKE) bench

bench-fresh: build ## Measure event to queryable at 30, 60 and 90 % of what this machine takes (3 minutes; needs the ports of make run)
	bench/freshness/run.sh
	@$(MAKE) --no-print-directory bench-page

bench-page: ## Write bench/results/summary.json and its section of docs/performance.md from the runs
	CGO_ENABLED=0 $(GO) test -count=1 -run '^TestPage$$' ./bench/compare -update

bench-query: ## Measure PromQL beside SQL, the plain engine and Prometheus' own storage (an hour and 8 GB; bench/README.md)
	VIGIE_BENCH_QUERY=$(CURDIR)/bench/results/query.json CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 6h -run '^TestQueries$$' ./bench/query
	@$(MAKE) --no-print-directory bench-query-page

bench-query-page: ## Write the section on PromQL of docs/performance.md from bench/results/query.json
	CGO_ENABLED=0 $(GO) test -count=1 -run '^TestPage$$' ./bench/query -update

microbench: ## Run the benchmarks of the pure packages and the pipeline
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem ./pkg/... ./internal/pipeline/... ./internal/clickhouse/...

docs: ## Write the generated documents anew (docs/configuration.md, docs/metrics.md)
	CGO_ENABLED=0 $(GO) test -run TestReference ./internal/config -update
	CGO_ENABLED=0 $(GO) test -run TestMetricsReference ./internal/app -update

clean: ## Remove what was built (data in .vigie stays; remove it by hand)
	rm -rf bin
