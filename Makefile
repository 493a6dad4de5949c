# The few commands of this project; each brings what it needs first (scripts/setup.sh says what, and where to).

.PHONY: help demo test compose-test faults faults-long alert-drill dashboards helm-install lint figures

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

# A debug build: it is there in half the time, and the demo waits for clocks, not for the processor.
demo: ## Simulator, in-process cluster and bridge in one process: events arrive, a queue dies and is reconciled
	@scripts/setup.sh build
	cargo run --locked --bin linxo-bridge -- demo

# Cargo runs the files one after another, and of each file as many tests at a time as there are cores.
test: ## Every test, those on real Kafka and a real Schema Registry too
	@scripts/setup.sh
	cargo test --locked

# As root on Debian; a few minutes, with COMPILE=1 ten more, for our image from its sources. What it looks at: docs/compose.md.
compose-test: ## docker-compose.yml started for real, with stand-ins for images that cannot be fetched
	@scripts/setup.sh
	scripts/compose-test.sh

# Times are in proportion: a minute is a second. What was found is in the table, and in target/tmp/faults.
faults: ## Every fault of the list, and the control runs that must fail; the table goes to target/faults.md
	@scripts/setup.sh
	cargo test --locked --test fault_suite -- --all --table target/faults.md

faults-long: ## Those for which real times matter, with 15 minutes of a queue's life and outages of 20
	@scripts/setup.sh
	cargo test --locked --test fault_suite -- --long --table target/faults-long.md

# Once a release: it is not among the tests, as it builds a control plane the first time (ten minutes) and needs Go.
helm-install: ## The Helm chart installed, upgraded and drained on a real Kubernetes control plane without containers
	@tests/control_plane/run.sh

# Forty minutes; times are a sixth, so it wants a machine that has nothing else to do.
alert-drill: ## Breaks Kafka, Linxo, tokens and instances under a real Prometheus; the table goes to target/alert-drill.md
	@scripts/setup.sh
	cargo test --locked --test alert_drill -- --table target/alert-drill.md

# Needs Node.js, chromium and pngquant; the packages of Grafana are 440 MB. Pictures are for a person to look at.
dashboards: ## Types of the dashboards, every query asked in a load run, and pictures of them in target/dashboards
	@scripts/setup.sh
	cd deploy/grafana/render && npm ci --legacy-peer-deps --ignore-scripts --no-audit --no-fund && node types.mjs
	cargo test --locked --test alert_drill -- --dashboards $(CURDIR)/target/dashboards

lint: ## Format and lints, as CI sees them
	@scripts/setup.sh build
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

figures: ## The measurements of the documents, anew
	@scripts/setup.sh
	cargo bench --locked --features sabotage
