#!/usr/bin/env bash
# redis-cli's and redis-benchmark's own modes against the server at MERIDIAN_HOST:MERIDIAN_PORT, and, where
# MERIDIAN_CLUSTER_PORT is given, against that cluster; where MERIDIAN_TLS_PORT is, by TLS with the files in MERIDIAN_TLS_FOLDER. One line per check; ends with "N passed, N failed".
set -u
host=${MERIDIAN_HOST:-127.0.0.1}
port=${MERIDIAN_PORT:-6379}
cluster_port=${MERIDIAN_CLUSTER_PORT:-}
cli=(redis-cli -h "$host" -p "$port")
passed=0
failed=0

# check NAME PATTERN COMMAND...: the command ends well within a minute and its output matches.
check() {
    local name=$1 pattern=$2 output status
    shift 2
    output=$(timeout 60 "$@" 2>&1 </dev/null)
    status=$?
    if [ $status -eq 0 ] && grep -qE -- "$pattern" <<<"$output"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s (exit %s):\n%s\n' "$name" "$status" "$(tail -n 20 <<<"$output")"
    fi
}

# bounded NAME PATTERN SECONDS COMMAND...: a mode that never ends by itself prints a match meanwhile.
bounded() {
    local name=$1 pattern=$2 seconds=$3 output
    shift 3
    output=$(timeout "$seconds" "$@" 2>&1 </dev/null)
    if grep -qE -- "$pattern" <<<"$output"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s:\n%s\n' "$name" "$(tail -n 20 <<<"$output")"
    fi
}

# refused NAME COMMAND...: the command ends and has no PONG.
refused() {
    local name=$1 output
    shift
    output=$(timeout 60 "$@" 2>&1 </dev/null)
    if [ $? -ne 124 ] && ! grep -q PONG <<<"$output"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s:\n%s\n' "$name" "$output"
    fi
}

check "ping" '^PONG$' "${cli[@]}" ping
check "a key of each type" '^OK$' "${cli[@]}" mset cli:s1 one cli:s2 two
"${cli[@]}" rpush cli:l a b c >/dev/null
"${cli[@]}" hset cli:h f v >/dev/null
"${cli[@]}" sadd cli:set a b >/dev/null
"${cli[@]}" zadd cli:z 1 a >/dev/null
check "--scan" 'cli:s1' "${cli[@]}" --scan --pattern 'cli:*'
check "--bigkeys" 'Biggest .*list' "${cli[@]}" --bigkeys
check "--memkeys" 'Biggest' "${cli[@]}" --memkeys
bounded "--stat" '^[0-9]+ +[0-9.]+[KMG]?' 2 stdbuf -oL "${cli[@]}" --stat -i 0.3
bounded "--latency" '^[0-9]+ [0-9]+ [0-9.]+ [0-9]+' 20 "${cli[@]}" --latency --raw -i 1
check "--json" '"f"' "${cli[@]}" -3 --json hgetall cli:h
check "RESP3" '1# "f" => "v"' "${cli[@]}" -3 --no-raw hgetall cli:h
check "-x" '^OK$' bash -c 'printf value | redis-cli -h "$0" -p "$1" -x set cli:x' "$host" "$port"
check "-r" '^3$' "${cli[@]}" -r 3 incr cli:n
check "--pipe" 'errors: 0, replies: 1000' bash -c \
    'for i in $(seq 1000); do printf "SET cli:pipe:%s %s\r\n" "$i" "$i"; done | redis-cli -h "$0" -p "$1" --pipe' "$host" "$port"
check "--eval-free commands" 'summary|SET' "${cli[@]}" command docs set
check "clean-up" '^[0-9]+$' bash -c \
    'redis-cli -h "$0" -p "$1" --scan --pattern "cli:*" | xargs redis-cli -h "$0" -p "$1" del' "$host" "$port"

tests=ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin
tests+=,lrange_100,lrange_300,lrange_500,lrange_600,mset
for pipeline in 1 16; do
    output=$(timeout 120 redis-benchmark -h "$host" -p "$port" -n 2000 -c 20 -P "$pipeline" -r 1000 --csv -t "$tests" 2>&1)
    for test in PING_INLINE PING_MBULK SET GET INCR LPUSH RPUSH LPOP RPOP SADD HSET SPOP ZADD ZPOPMIN \
        'LRANGE_100 ' 'LRANGE_300 ' 'LRANGE_500 ' 'LRANGE_600 ' 'MSET '; do
        if grep -qE "^\"$test[^\"]*\",\"[0-9.]+\"" <<<"$output"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            printf 'FAILED redis-benchmark -P %s -t %s:\n%s\n' "$pipeline" "$test" "$(tail -n 5 <<<"$output")"
        fi
    done
done

if [ -n "$cluster_port" ]; then
    cluster=(redis-cli -c -h "$host" -p "$cluster_port")
    check "cluster: follows its keys" '^OK$' "${cluster[@]}" set cli:cluster:a 1
    check "cluster: reads them" '^1$' "${cluster[@]}" get cli:cluster:a
    check "cluster: slots" '16383' "${cluster[@]}" cluster slots
    check "cluster: shards" '16383' "${cluster[@]}" cluster shards
    check "cluster: nodes" 'myself,master' "${cluster[@]}" cluster nodes
    check "cluster: state" 'cluster_state:ok' "${cluster[@]}" cluster info
    # The tool itself refuses a cluster of one node, which a server with one core is.
    bounded "cluster: benchmark" '"SET","[0-9.]+"|Invalid cluster: 1 node' 60 \
        redis-benchmark -h "$host" -p "$cluster_port" --cluster -n 2000 -c 10 --csv -t set,get
    "${cluster[@]}" del cli:cluster:a >/dev/null
fi

if [ -n "${MERIDIAN_TLS_PORT:-}" ]; then
    tls=(redis-cli -h localhost -p "$MERIDIAN_TLS_PORT" --tls --cacert "$MERIDIAN_TLS_FOLDER/ca.pem")
    shown=(--cert "$MERIDIAN_TLS_FOLDER/client.pem" --key "$MERIDIAN_TLS_FOLDER/client.key")
    check "TLS: without a certificate" '^PONG$' "${tls[@]}" ping
    check "TLS: with one" '^PONG$' "${tls[@]}" "${shown[@]}" ping
    check "TLS: a large value" '^100000$' bash -c \
        'head -c 100000 /dev/zero | tr "\0" x | "${@}" -x set cli:tls >/dev/null; "${@}" strlen cli:tls' tls "${tls[@]}"
    check "TLS: certificates are asked for" '^OK$' "${cli[@]}" config set tls-auth-clients yes
    refused "TLS: without a certificate then" "${tls[@]}" ping
    check "TLS: with one then" '^PONG$' "${tls[@]}" "${shown[@]}" ping
    check "TLS: as before" '^OK$' "${cli[@]}" config set tls-auth-clients optional
    "${cli[@]}" del cli:tls >/dev/null
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
