#!/usr/bin/env bash
# Instructions per request of GET and SET at P16, by callgrind: exact where times are noisy, so that a change of the
# request path can be judged on a busy machine. They are instructions outside the kernel, of all of the server's
# threads, while a load runs; what a cache miss costs is not in them.
#
#   MERIDIAN_BIN=...  the server (default: the release build)     REQUESTS=100000
#   OUT=bench/results/instructions.md                            TOP=15  functions listed
#
# The server runs with --io epoll: valgrind knows io_uring only in part. About a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/meridian/target}"
server="${MERIDIAN_BIN:-$target/release/meridian}"
requests="${REQUESTS:-100000}"
top="${TOP:-15}"
out="${OUT:-bench/results/instructions.md}"
work=$(mktemp -d)
pid=""

cleanup() {
    if [ -n "$pid" ]; then
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

for tool in valgrind callgrind_control callgrind_annotate redis-benchmark redis-cli; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: $tool is not installed: instructions are not counted"; exit 0; }
done
[ -x "$server" ] || { echo "no server at MERIDIAN_BIN or in the release build; run: cargo build --release --bin meridian" >&2; exit 1; }

while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done

# It answers when the server has done it.
control() { timeout 60 callgrind_control "$@" "$pid" >/dev/null 2>&1; }
load() { timeout 300 redis-benchmark -p "$port" -c 50 -n "$1" -P 16 -r 100000 -d 64 -t "$2" -q >/dev/null; }

valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$work/out" \
    "$server" --port "$port" --bind 127.0.0.1 --cores 1 --io epoll --dir "$work" >"$work/log" 2>&1 &
pid=$!
for _ in $(seq 300); do
    [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ] && break
    kill -0 "$pid" 2>/dev/null || { tail -n 5 "$work/log" >&2; exit 1; }
    sleep 0.1
done

{
    echo "# instructions"
    echo
    echo "Instructions per request outside the kernel: $requests requests, P16, 50 connections, 64-byte values, --io epoll, one core."
    echo "$("$server" --version | head -n 1); $(valgrind --version)."
} >"$work/page"

# Keys exist, tables have grown and code has been translated before anything is counted.
load "$requests" set
dump=0
for command in get set; do
    control -z
    control -i on
    load "$requests" "$command"
    control -i off
    control -d
    dump=$((dump + 1))
    callgrind_annotate --threshold=100 "$work/out.$dump" >"$work/functions" 2>/dev/null
    total=$(awk '/PROGRAM TOTALS/ { gsub(",", "", $1); print $1; exit }' "$work/functions")
    {
        echo
        echo "## ${command^^}: $((total / requests)) per request"
        echo
        echo "| per request | share | function |"
        echo "|---|---|---|"
        # Lines are: count (share) file:function [object]; counts have commas.
        awk -v requests="$requests" -v total="$total" -v top="$top" '
            /PROGRAM TOTALS/ { behind = 1; next }
            behind && $1 ~ /^[0-9][0-9,]*$/ {
                count = $1; gsub(",", "", count)
                name = $0
                sub(/^ *[0-9,]+ *(\([^)]*\))? */, "", name)
                sub(/ \[[^]]*\]$/, "", name)
                sub(/^[^ ]*\/registry\/src\/[^\/]*\//, "", name)
                sub(/^[^ ]*\/rustc\/[0-9a-f]*\//, "", name)
                if (match(name, /\/(protocol|storage|server\/(runtime|commands|node))\/src\//)) name = substr(name, RSTART + 1)
                gsub(/\|/, "\\|", name)
                if (length(name) > 150) name = substr(name, 1, 147) "..."
                printf "| %.1f | %.1f %% | `%s` |\n", count / requests, 100 * count / total, name
                if (++printed == top) exit
            }' "$work/functions"
    } >>"$work/page"
done
mkdir -p "$(dirname "$out")"
cp "$work/page" "$out"
grep '^## ' "$out"
echo "written: $out"
