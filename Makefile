# The few commands of this project; each brings what it needs first (scripts/setup.sh says what, and where to).

.PHONY: help demo test lint figures

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

# A debug build: it is there in half the time, and the demo waits for clocks, not for the processor.
demo: ## Simulator, in-process cluster and bridge in one process: events arrive, a queue dies and is reconciled
	@scripts/setup.sh build
	cargo run --locked --bin linxo-bridge -- demo

# Cargo runs the files one after another, and of each file as many tests at a time as there are cores.
test: ## Every test, those on real Kafka and a real Schema Registry too
	@scripts/setup.sh
	cargo test --locked

lint: ## Format and lints, as CI sees them
	@scripts/setup.sh build
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

figures: ## The measurements of the documents, anew
	@scripts/setup.sh
	cargo bench --locked
