# Thin: each line calls cargo or one script. `make help` lists the targets.
export CARGO_TARGET_DIR ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/meridian/target
ARGS ?= --port 6379
OPS ?= 1000000
SEED ?= 1
SERVER ?= 127.0.0.1:6379
ORACLE ?= 127.0.0.1:6380

.PHONY: help run test check tidy bench microbench fuzz differential atomicity badinput drill durability sim suite docs toolchain

help:            ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

run: toolchain   ## build for release and start; ARGS="--port 6379 --cores 4"
	cargo build --release --bin meridian
	exec "$(CARGO_TARGET_DIR)/release/meridian" $(ARGS)

test: toolchain  ## everything that CI runs: unit, law, client, differential and atomicity tests
	@scripts/test.sh

check: toolchain ## format, lints, tidy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test -p node --test tidy
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: deny.toml is not checked"; fi

bench: toolchain ## beside redis-server on this machine, about 20 minutes: NAME=eviction (one part), BENCH_ARGS="speed --rounds 5", QUICK=1
	@BENCH_ARGS="$(or $(BENCH_ARGS),$(NAME))" scripts/bench.sh

microbench: toolchain ## micro benches of protocol and storage
	cargo bench -p protocol -p storage

fuzz: toolchain  ## random bytes against the decoders whose test names hold TARGET (all without): SECONDS=60
	FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --release -p protocol -p storage -p seal --test fuzz -- $(TARGET)

differential: toolchain ## SERVER against the Redis at ORACLE, reply by reply: OPS=1000000 SEED=1
	cargo run --release -p chaos --bin differential -- --subject $(SERVER) --oracle $(ORACLE) --ops $(OPS) --seed $(SEED) --allow chaos/allow/redis-7.0.txt

atomicity: toolchain ## transfers between the cores of SERVER: SECONDS=60 SEED=1
	cargo run --release -p chaos --bin atomicity -- --server $(SERVER) --seconds $(or $(SECONDS),60) --seed $(SEED)

durability: toolchain ## kill -9 under load, restart, compare: ROUNDS=200 SEED=1 PLANT=nothing [SEALED=1]
	cargo build --bin meridian
	cargo run --release -p chaos --bin durability -- --binary "$(CARGO_TARGET_DIR)/debug/meridian" --rounds $(or $(ROUNDS),200) --seed $(SEED) --plant $(or $(PLANT),nothing) $(if $(SEALED),--sealed)

drill: toolchain ## the move off Redis, long, with redis-py and go-redis: KILL=none|meridian|source|link OLD_SIDE=replica|written ROUNDS=100 SEED=1 SECONDS=60
	cargo build --release -p node
	cd chaos/drill/go && go build -o "$(CARGO_TARGET_DIR)/drill-load" .
	python3 chaos/drill/migrate.py --meridian "$(CARGO_TARGET_DIR)/release/meridian" --go "$(CARGO_TARGET_DIR)/drill-load" \
		--kill $(or $(KILL),none) --old-side $(or $(OLD_SIDE),replica) --rounds $(or $(ROUNDS),100) --seed $(SEED) --seconds $(or $(SECONDS),60)

badinput: toolchain ## hostile clients against SERVER: SECONDS=4 (each kind) SEED=1
	cargo run --release -p chaos --bin badinput -- --server $(SERVER) --seconds $(or $(SECONDS),4) --seed $(SEED)

sim: toolchain ## simulated nodes: SEEDS=1000 FROM=1, or one with all that happens: SEED=7; PLANT=name plants a fault
	cargo run --profile quick -p chaos --bin sim -- $(if $(filter command environment,$(firstword $(origin SEED))),--seed $(SEED),--seeds $(or $(SEEDS),1000) --from $(or $(FROM),1)) $(if $(PLANT),--plant $(PLANT))

suite:           ## the units of Redis's own test suite against the release program: REDIS_SRC=tree of Redis 7.2 [UNITS=unit/sort] [CORES=1]
	@scripts/redis_suite.sh

docs: toolchain  ## write the pages that are printed from the code
	BLESS=1 cargo test -p node docs

toolchain:
	@command -v cargo >/dev/null || { echo "cargo is missing. Install Rust 1.95 or newer with rustup, and a C compiler (Debian: apt-get install gcc)." >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing (the allocator is compiled with it). Debian: apt-get install gcc libc6-dev." >&2; exit 1; }
