# The entry for people and for CI. Every target works from a clean checkout, does its own set-up and says what it does.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One target directory for everything, so that nothing is compiled twice.
export CARGO_TERM_PROGRESS_WHEN ?= never

# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

say = @printf '\n== %s\n'

.PHONY: help
help: ## Print this list
	@echo "sacker: a cloud blob manager for Kubernetes"
	@echo
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: demo
demo: ## Promote a package end to end on a real API server (DEMO_LEDGER=file, dynamo, s3, zk or git; DEMO_STORE=file, s3 or hdfs)
	@demo/run

# Which images `make image` builds.
IMAGES ?= init sacker
# What is measured of the operator is built by itself; the rest needs no image but that of the init container.
bench: IMAGES = init

.PHONY: image
image: ## Build the images target/image/{sacker,sacker-init}.tar, OCI layouts (IMAGES=init for one, IMAGE_PREFIX names them; no daemon)
	$(say) "building static binaries and their images: $(IMAGES)"
	@image/run $(IMAGES)

.PHONY: test
test: testbed ## Run all tests against the real servers of the test bed
	$(say) "building the binaries and the tests"
	cargo build --quiet --bins --tests
	$(say) "building the image of sacker-init as it is released, and one of the other programs as they were just built"
	SACKER_PROGRAMS=$(TARGET)/debug image/run init sacker
	$(say) "running the tests (seed: $${SACKER_SEED:-random, printed by each randomised test})"
	@rm -rf target/servers
	@# Three at a time: with two, a third of two cores waits for servers and timers.
	@# Not the other examples, which lint compiles.
	SACKER_SERVERS=$(CURDIR)/target/servers RUST_TEST_THREADS=$${RUST_TEST_THREADS:-3} \
		cargo test --no-fail-fast --lib --bins --tests
	@testbed/took-part target/servers
	$(say) "fuzzing every decoder"
	fuzz/run $(or $(FUZZ_SECONDS),10)

.PHONY: fuzz
fuzz: ## Fuzz every decoder (FUZZ_SECONDS each, 60 by default) and keep what brings new coverage in fuzz/corpus/
	fuzz/run --keep $(or $(FUZZ_SECONDS),60)

.PHONY: soak
soak: testbed image ## Run tests at a night's figures (GROUP=ledger, faults-dynamo, crash-minio, ...; all without it)
	$(say) "building the binaries and the tests"
	cargo build --quiet --bins --tests
	@soak/run $(GROUP)

.PHONY: bench
bench: testbed image ## Measure downloads and uploads beside other programs, then the operator beside a plain loop (docs/benchmarks.md; ONLY=<row>)
	$(say) "what is measured beside ours"
	@testbed/get peers || echo "some peers are missing; their rows will say so"
	$(say) "building what is released, and the measuring programs"
	cargo build --quiet --release --bins --example bench --example blobserve --example reflector
	@case '$(ONLY)' in \
		''|size|op-*) cargo build --quiet --profile operator --no-default-features --features operator --bin sacker-operator ;; \
	esac
	@status=0; \
	if [[ '$(ONLY)' != op-* ]]; then \
		SACKER_BENCH_INIT=$(TARGET)/image/sacker-init/sacker-init SACKER_BENCH_OPERATOR=$(TARGET)/operator/sacker-operator \
			$(TARGET)/release/examples/bench \
			$(if $(ONLY),--only $(ONLY),--docs docs) $(BENCH_FLAGS) || status=$$?; \
	fi; \
	if [[ -z '$(ONLY)' || '$(ONLY)' == op-* ]]; then $(MAKE) --no-print-directory bench-operator || status=$$?; fi; \
	exit $$status

# The rows op-*, which are tests of the operator at a night's figures.
.PHONY: bench-operator
bench-operator:
	$(say) "building the tests"
	cargo build --quiet --bins --tests
	$(say) "many objects (some minutes)"
	@mkdir -p target/bench
	@rm -f target/bench/summary
	SACKER_TIER=soak SACKER_SUMMARY=$(CURDIR)/target/bench/summary \
		SACKER_BENCH_OPERATOR=$(TARGET)/operator/sacker-operator SACKER_BENCH_REFLECTOR=$(TARGET)/release/examples/reflector \
		cargo test --quiet --test it -- --include-ignored --test-threads=1 operator::rates operator::scale operator::chaos
	@sed 's/^SUMMARY //' target/bench/summary

.PHONY: lint
lint: ## Check format, clippy and docs per feature set, the dependency graph, and the links of docs/
	$(say) "format"
	cargo fmt --check
	$(say) "clippy: all features, all targets"
	cargo clippy --quiet --all-targets -- -D warnings
	$(say) "clippy: the fuzzer"
	cargo clippy --quiet --features fuzz --example fuzz -- -D warnings
	@for set in init cli operator; do \
		printf '\n== clippy: %s alone\n' "$$set"; \
		cargo clippy --quiet --lib --bins --no-default-features --features "$$set" -- -D warnings; \
	done
	$(say) "documentation"
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --lib --document-private-items
	$(say) "dependency graph"
	lint/graph
	$(say) "file sizes"
	lint/sizes
	$(say) "pages and links of docs/"
	lint/docs

.PHONY: generate
generate: ## Remake the generated files: crds/, what the chart shares, and the reference in docs/cli.md
	$(say) "crds/, charts/sacker/files/, docs/cli.md"
	@# With the tests: alone, everything the programs stand on is compiled again for another set of features.
	cargo build --quiet --bins --tests
	$(TARGET)/debug/sacker-operator crds --directory crds
	lint/chart
	lint/reference

.PHONY: check-generated
check-generated: ## Fail when a generated file is not up to date
	$(say) "generated files"
	lint/generated

.PHONY: testbed
testbed: ## Build or fetch the real servers, once, into a cache outside the checkout
	@testbed/get

.PHONY: ci
ci: ## What CI runs: lint, generated files, then the README's test command
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory check-generated
	@$(MAKE) --no-print-directory test

.PHONY: clean-demo
clean-demo: ## Remove what an interrupted demo left in .demo/
	rm -rf .demo
