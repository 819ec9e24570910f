#!/usr/bin/env bash
# `make bench`: Meridian beside redis-server (and valkey-server, memcached where they are) on this machine. 15 to 20
# minutes on an idle machine after the build, by estimate; it is stopped at 45, with the pages of all finished parts
# written. Needs 2 CPUs and 4 GiB of memory.
#
#   BENCH_ARGS="speed --rounds 5"   parts and flags of `compare` (default: all)
#   NAME=eviction                   with make: one part
#   QUICK=1                         all parts with a tenth of the load, 4 minutes: shows that they work
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/meridian/target}"
minutes_max=45

apt() {
    command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || return 1
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

for tool in redis-server redis-benchmark; do
    if ! command -v "$tool" >/dev/null && ! apt redis-server redis-tools; then
        echo "$tool is missing and could not be installed. Debian: apt-get install redis-server redis-tools." >&2
        exit 1
    fi
done
[ "$(nproc)" -ge 2 ] || { echo "two CPUs are needed: one for the server, one for the load" >&2; exit 1; }

cargo build --release --bin meridian
cargo build --release -p runtime --example responder
cargo build --release -p bench --bin compare
export MERIDIAN_BIN="${MERIDIAN_BIN:-$CARGO_TARGET_DIR/release/meridian}"
export RESPONDER_BIN="${RESPONDER_BIN:-$CARGO_TARGET_DIR/release/examples/responder}"

read -r -a args <<<"${BENCH_ARGS:-all}"
out=bench/results
if [ -n "${QUICK:-}" ]; then
    out="$CARGO_TARGET_DIR/quick-results" # measures nothing: not among the results
    args+=(--quick --out "$out")
fi
echo "load average: $(cut -d' ' -f1-3 /proc/loadavg); figures of a busy machine are not worth keeping"
# In the foreground, so that an interrupt reaches compare, which stops its servers.
timeout --foreground "${minutes_max}m" "$CARGO_TARGET_DIR/release/compare" "${args[@]}"
echo "results: $out"
