#!/usr/bin/env bash
# `make suite`. Runs the units of Redis's own test suite against a server of ours, in the suite's "external" mode, and ends
# with a table and one line "N passed, N failed". Nothing is fetched: REDIS_SRC names a source tree of Redis 7.2 in which
# `make` has been run (its redis-cli is used too), and tclsh must be there (Debian: apt-get install tcl).
#
#   REDIS_SRC=/path/to/redis-7.2   the source tree; only read
#   CORES="1 2"                    the units are run once with each number of cores
#   UNITS="unit/sort unit/multi"   instead of all
#   SERVER=path                    instead of the release program that cargo builds
#   KEEP=dir                       where the logs are left
#
# What is skipped, and why: chaos/allow/redis-suite.txt.
set -uo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/meridian"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
allow="$PWD/chaos/allow/redis-suite.txt"
# A unit that takes longer has hung.
UNIT_SECONDS_MAX=600
# Units that start servers of their own, or ask for persistence or replicas throughout: nothing of them runs here.
left_out="unit/shutdown unit/oom-score-adj unit/tls"

die() {
    echo "$*" >&2
    exit 2
}

[ -n "${REDIS_SRC:-}" ] || die "REDIS_SRC must name a source tree of Redis 7.2"
[ -x "$REDIS_SRC/runtest" ] || die "there is no runtest in $REDIS_SRC"
[ -x "$REDIS_SRC/src/redis-cli" ] || die "redis-cli is not built in $REDIS_SRC/src"
command -v tclsh >/dev/null || die "tclsh is missing. Debian: apt-get install tcl"
if [ -z "${SERVER:-}" ]; then
    cargo build --release -p node --bin meridian || exit 1
    SERVER="$CARGO_TARGET_DIR/release/meridian"
fi

work=$(mktemp -d)
logs=${KEEP:-$work/logs}
mkdir -p "$logs"
server=""
stop() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=""
}
trap 'stop; rm -rf "$work"' EXIT

free_port() {
    local port
    while :; do
        port=$((21000 + RANDOM % 8000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# The suite writes into its own tree: it gets a copy.
mkdir -p "$work/tree"
cp -r "$REDIS_SRC/tests" "$REDIS_SRC/runtest" "$work/tree/"
ln -s "$(cd "$REDIS_SRC" && pwd)/src" "$work/tree/src"
# These are left out in external mode for what their last blocks do with child processes: chaos/allow/ leaves out those blocks.
sed -i 's/aofrw external:skip/aofrw/' "$work/tree/tests/unit/aofrw.tcl"
grep -vE '^(#|$)' "$allow" >"$work/skip"
units=${UNITS:-$(cd "$work/tree/tests" && ls unit/*.tcl unit/type/*.tcl unit/cluster/*.tcl | sed 's/\.tcl$//')}

passed=0
failed=0
printf '%-36s %5s %6s %6s %7s\n' unit cores passed failed skipped
for cores in ${CORES:-1 2}; do
    for unit in $units; do
        case " $left_out " in *" $unit "*) continue ;; esac
        log="$logs/${unit//\//_}.$cores.log"
        port=$(free_port)
        rm -rf "$work/data"
        mkdir -p "$work/data"
        (cd "$work/data" && exec "$SERVER" --port "$port" --cores "$cores" --save "" \
            --enable-debug-command yes >"$log.server" 2>&1) &
        server=$!
        for _ in $(seq 100); do
            "$REDIS_SRC/src/redis-cli" -p "$port" ping >/dev/null 2>&1 && break
            sleep 0.1
        done
        (cd "$work/tree" && timeout "$UNIT_SECONDS_MAX" ./runtest --host 127.0.0.1 --port "$port" \
            --baseport "$(free_port)" --single "$unit" --durable --skipfile "$work/skip" >"$log" 2>&1)
        status=$?
        sed -i 's/\x1b\[[0-9;]*m//g' "$log"
        ok=$(grep -c '^\[ok\]: ' "$log")
        bad=$(grep -c '^\*\*\* \[err\]' "$log")
        skipped=$(grep -cE '^\[(ignore|skip)\]: ' "$log")
        # It hung, or the suite itself failed, or the server is gone.
        [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
        kill -0 "$server" 2>/dev/null || bad=$((bad + 1))
        stop
        printf '%-36s %5s %6s %6s %7s\n' "$unit" "$cores" "$ok" "$bad" "$skipped"
        [ "$bad" -eq 0 ] || sed -n '/tests failed/,$p' "$log" | grep -E '^\*\*\*' | sed 's/^/    /'
        passed=$((passed + ok))
        failed=$((failed + bad))
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
