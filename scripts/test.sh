#!/usr/bin/env bash
# `make test`. Brings what the tests need where it is absent, runs them, counts, and ends with one line
# "N passed, N failed". What cannot be had is skipped aloud; with CI set, that is a failure.
#
#   COMBINATIONS="uring:1 uring:2 epoll:1 epoll:2"   io and cores that the client suites are run with
#   DIFFERENTIAL_OPS=100000  ATOMICITY_SECONDS=10  DURABILITY_ROUNDS=10    0 leaves them out
#   DRILL_SECONDS=10  DRILL_ROUNDS=4                 the move off Redis
#   SKIP_CARGO=1                                     only what needs a running server
set -uo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/meridian"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
combinations=${COMBINATIONS:-uring:1 uring:2 epoll:1 epoll:2}
differential_ops=${DIFFERENTIAL_OPS:-100000}
atomicity_seconds=${ATOMICITY_SECONDS:-10}
durability_rounds=${DURABILITY_ROUNDS:-10}
clients="$PWD/server/node/tests/clients"
bin="$CARGO_TARGET_DIR/debug"
work=$(mktemp -d)
passed=0
failed=0
skipped=0
servers=()
# What failed or was left out, told again at the end.
reasons=()
# How long a server may take to stop, tenths of a second.
STOP_TENTHS_MAX=150

cleanup() {
    stop "${servers[@]}"
    rm -rf "$work"
}
trap cleanup EXIT

say() { printf '\n=== %s (%s s)\n' "$*" "$SECONDS"; }

# count PASSED FAILED STATUS NAME: adds a part's numbers; a part that died without a count has failed.
count() {
    passed=$((passed + ${1:-0}))
    failed=$((failed + ${2:-0}))
    if [ "$3" -ne 0 ] && [ "${2:-0}" -eq 0 ]; then
        failed=$((failed + 1))
    fi
    [ "$3" -eq 0 ] || tell "FAILED: $4"
}

tell() {
    reasons+=("$1")
    echo "$1"
}

skip() {
    tell "SKIPPED: $*"
    if [ -n "${CI:-}" ]; then failed=$((failed + 1)); else skipped=$((skipped + 1)); fi
}

apt() {
    command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || return 1
    [ -e "$work/updated" ] || { apt-get update -qq >/dev/null 2>&1; touch "$work/updated"; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

total() {
    local n=0 i
    for i in $(grep -oE "$1" "$2" | grep -oE '[0-9]+'); do n=$((n + i)); done
    echo "$n"
}

# A port with nothing on it and nothing on the 15 after it.
free_port() {
    local port i
    while :; do
        port=$((20000 + RANDOM % 12000))
        for i in $(seq 0 15); do
            (exec 3<>"/dev/tcp/127.0.0.1/$((port + i))") 2>/dev/null && continue 2
        done
        echo "$port"
        return
    done
}

# start NAME LOG PORT COMMAND...: a server in the background, once it answers PING; its pid in $started.
start() {
    local name=$1 log=$2 port=$3 i
    shift 3
    "$@" >"$log" 2>&1 &
    started=$!
    servers+=("$started")
    for i in $(seq 150); do
        [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ] && return 0
        kill -0 "$started" 2>/dev/null || break
        sleep 0.1
    done
    stop "$started"
    echo "$name does not start: $(tail -n 3 "$log")"
    return 1
}

# stop PID...: ends servers of ours, and forgets them: their numbers may soon be another's.
stop() {
    local pid other left
    for pid in "$@"; do
        left=()
        for other in "${servers[@]}"; do
            if [ "$other" = "$pid" ]; then
                kill "$pid" 2>/dev/null
                for _ in $(seq "$STOP_TENTHS_MAX"); do
                    kill -0 "$pid" 2>/dev/null || break
                    sleep 0.1
                done
                kill -KILL "$pid" 2>/dev/null && echo "a server did not stop when asked: killed"
                wait "$pid" 2>/dev/null
            else
                left+=("$other")
            fi
        done
        servers=("${left[@]}")
    done
}

say "tools"
for tool in redis-server redis-cli redis-benchmark; do
    command -v $tool >/dev/null || apt redis-server redis-tools
done
command -v redis-cli >/dev/null || { skip "no redis-cli: no test against a running server"; combinations=""; }
python="$cache/python"
if [ -n "$combinations" ] && command -v python3 >/dev/null; then
    if ! cmp -s "$clients/python/requirements.txt" "$python/requirements.txt"; then
        { python3 -m venv "$python" >/dev/null 2>&1 || { apt python3-venv && python3 -m venv "$python"; }; } &&
            "$python/bin/pip" install -q -r "$clients/python/requirements.txt" &&
            cp "$clients/python/requirements.txt" "$python/requirements.txt"
    fi
    "$python/bin/python" -c 'import redis, pytest' || { skip "redis-py cannot be installed"; python=""; }
else
    python=""
    [ -n "$combinations" ] && skip "no python3: redis-py is not tested"
fi
go="$work/go.test"
if [ -n "$combinations" ] && command -v go >/dev/null; then
    (cd "$clients/go" && go vet ./... && go test -c -o "$go" .) || { skip "go-redis cannot be built"; go=""; }
else
    go=""
    [ -n "$combinations" ] && skip "no go: go-redis is not tested"
fi

# Applications and clients that are tested as they are, each language in a folder of its own.
apps="$clients/apps"
apps_python="$cache/apps-python"
apps_node="$cache/apps-node"
apps_go="$work/apps.test"
if [ -n "$combinations" ] && [ -n "$python" ]; then
    if ! cmp -s "$apps/python/requirements.txt" "$apps_python/requirements.txt"; then
        python3 -m venv "$apps_python" >/dev/null 2>&1 &&
            "$apps_python/bin/pip" install -q -r "$apps/python/requirements.txt" &&
            cp "$apps/python/requirements.txt" "$apps_python/requirements.txt"
    fi
    "$apps_python/bin/python" -c 'import celery, rq, pytest' || { skip "Celery and RQ cannot be installed"; apps_python=""; }
else
    apps_python=""
fi
if [ -n "$combinations" ] && command -v npm >/dev/null; then
    mkdir -p "$apps_node"
    if ! cmp -s "$apps/node/package.json" "$apps_node/installed.json"; then
        cp "$apps/node/package.json" "$apps_node/" &&
            (cd "$apps_node" && npm install --no-audit --no-fund --loglevel=error >/dev/null 2>&1) &&
            cp "$apps/node/package.json" "$apps_node/installed.json"
    fi
    cp "$apps"/node/*.js "$apps_node/"
    [ -e "$apps_node/installed.json" ] || { skip "BullMQ and the clients of Node cannot be installed"; apps_node=""; }
else
    apps_node=""
    [ -n "$combinations" ] && skip "no npm: BullMQ, ioredis and node-redis are not tested"
fi
if [ -n "$combinations" ] && command -v go >/dev/null; then
    (cd "$apps/go" && go vet ./... && go test -c -o "$apps_go" .) || { skip "asynq cannot be built"; apps_go=""; }
else
    apps_go=""
fi

# An authority, a certificate of the server under a pass phrase, and one of a client.
tls_options=()
# Into a variable first: `grep -q` ends at its match, and a redis-cli that still writes would fail the pipe.
help=$(redis-cli --help 2>&1)
if [ -n "$combinations" ] && grep -q -- --tls <<<"$help" && command -v openssl >/dev/null; then
    sign() {
        openssl req -newkey rsa:2048 -nodes -keyout "$work/$1.key" -out "$work/$1.csr" -subj "/CN=localhost" &&
            printf 'subjectAltName=DNS:localhost' >"$work/$1.ext" &&
            openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
                -days 2 -extfile "$work/$1.ext" -out "$work/$1.pem"
    }
    if {
        openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/ca.key" -out "$work/ca.pem" -days 2 -subj "/CN=tests" &&
            sign server && sign client &&
            openssl pkcs8 -topk8 -in "$work/server.key" -out "$work/locked.key" -passout pass:sesame
    } >"$work/openssl.log" 2>&1; then
        tls_options=(--tls-cert-file "$work/server.pem" --tls-key-file "$work/locked.key" --tls-key-file-pass sesame
            --tls-ca-cert-file "$work/ca.pem" --tls-auth-clients optional)
        export MERIDIAN_TLS_FOLDER=$work
    else
        skip "no certificates can be made: $(tail -n 2 "$work/openssl.log")"
    fi
elif [ -n "$combinations" ]; then
    skip "no redis-cli with TLS, or no openssl: TLS is tested without it"
fi

if [ -z "${SKIP_CARGO:-}" ]; then
    say "cargo test"
    cargo test --workspace --no-fail-fast 2>&1 | tee "$work/cargo.log" | grep -vE '^test .* \.\.\. ok$|^(running|$)| Compiling | Downloaded '
    count "$(total '[0-9]+ passed' "$work/cargo.log")" "$(total '[0-9]+ failed' "$work/cargo.log")" "${PIPESTATUS[0]}" \
        "cargo test: $(grep -E '^test .* FAILED$' "$work/cargo.log" | cut -d ' ' -f 2 | sort -u | tr '\n' ' ')"
else
    cargo test --workspace --no-run || exit 1
fi
# The tests of `node` have built the program as well, with debug assertions: the suites run against it.
if [ ! -x "$bin/meridian" ]; then
    count 0 1 1 "the server was not built"
    combinations=""
fi

for combination in $combinations; do
    io=${combination%:*}
    cores=${combination#*:}
    port=$(free_port)
    options=(--io "$io" --cores "$cores" --logfile "" --save "")
    tls=()
    unset MERIDIAN_TLS_PORT
    if [ ${#tls_options[@]} -gt 0 ]; then
        export MERIDIAN_TLS_PORT=$((port + 15))
        tls=(--tls-port "$MERIDIAN_TLS_PORT" "${tls_options[@]}")
    fi
    if ! start "meridian" "$work/plain.log" "$port" "$bin/meridian" --port "$port" "${options[@]}" "${tls[@]}"; then
        if [ "$io" = uring ] && grep -q "io_uring" "$work/plain.log"; then
            tell "SKIPPED: this kernel or sandbox has no io_uring"
            skipped=$((skipped + 1))
        else
            count 0 1 1 "meridian does not start ($combination)"
        fi
        continue
    fi
    plain=$started
    cluster_port=$(free_port)
    start "meridian in cluster mode" "$work/cluster.log" "$cluster_port" \
        "$bin/meridian" --port "$cluster_port" --cluster-enabled yes "${options[@]}" ||
        count 0 1 1 "meridian in cluster mode does not start ($combination)"
    cluster=$started
    export MERIDIAN_PORT=$port MERIDIAN_CLUSTER_PORT=$cluster_port PYTHONDONTWRITEBYTECODE=1

    say "redis-cli and redis-benchmark: $io, $cores cores"
    "$clients/cli/run.sh" >"$work/cli.log" 2>&1
    status=$?
    cat "$work/cli.log"
    count "$(total '^[0-9]+ passed' "$work/cli.log")" "$(total ', [0-9]+ failed' "$work/cli.log")" $status "redis-cli ($combination)"

    if [ -n "$python" ]; then
        say "redis-py: $io, $cores cores"
        (cd "$clients/python" && timeout 600 "$python/bin/python" -m pytest --tb=short) >"$work/py.log" 2>&1
        status=$?
        grep -vE '^/.*site-packages' "$work/py.log" | tail -n 60
        tail -n 1 "$work/py.log" >"$work/py.last"
        count "$(total '[0-9]+ passed' "$work/py.last")" "$(total '[0-9]+ (failed|error)' "$work/py.last")" $status "redis-py ($combination)"
    fi

    if [ -n "$go" ]; then
        say "go-redis: $io, $cores cores"
        (cd "$clients/go" && "$go" -test.v -test.timeout 300s) >"$work/go.log" 2>&1
        status=$?
        grep -vE '^ *(=== |--- PASS)|^(PASS|ok)' "$work/go.log" | tail -n 60
        count "$(grep -c -- '^--- PASS' "$work/go.log")" "$(grep -c -- '^--- FAIL' "$work/go.log")" $status "go-redis ($combination)"
    fi

    # Applications take their time: once on each number of cores is enough.
    if [ "$io" = "${combinations%%:*}" ] && [ -n "$apps_python" ]; then
        say "Celery and RQ: $io, $cores cores"
        (cd "$apps/python" && timeout 300 "$apps_python/bin/python" -m pytest --tb=short) >"$work/apps.log" 2>&1
        status=$?
        tail -n 40 "$work/apps.log"
        tail -n 1 "$work/apps.log" >"$work/apps.last"
        count "$(total '[0-9]+ passed' "$work/apps.last")" "$(total '[0-9]+ (failed|error)' "$work/apps.last")" $status "Celery and RQ ($combination)"
    fi
    if [ "$io" = "${combinations%%:*}" ] && [ -n "$apps_node" ]; then
        say "BullMQ, ioredis, node-redis: $io, $cores cores"
        (cd "$apps_node" && timeout 300 node --test --test-reporter=tap) >"$work/apps.log" 2>&1
        status=$?
        grep -E '^ *(not ok|ok|#)|error:|message:' "$work/apps.log" | tail -n 40
        count "$(total '^# pass [0-9]+' "$work/apps.log")" "$(total '^# fail [0-9]+' "$work/apps.log")" $status "clients of Node ($combination)"
    fi
    if [ "$io" = "${combinations%%:*}" ] && [ -n "$apps_go" ]; then
        say "asynq: $io, $cores cores"
        (cd "$apps/go" && "$apps_go" -test.v -test.timeout 200s) >"$work/apps.log" 2>&1
        status=$?
        grep -vE '^ *(=== |--- PASS)|^(PASS|ok)' "$work/apps.log" | tail -n 40
        count "$(grep -c -- '^--- PASS' "$work/apps.log")" "$(grep -c -- '^--- FAIL' "$work/apps.log")" $status "asynq ($combination)"
    fi

    if ! kill -0 "$plain" 2>/dev/null || ! kill -0 "$cluster" 2>/dev/null; then
        count 0 1 1 "a server died ($combination): $(tail -n 5 "$work/plain.log" "$work/cluster.log")"
    fi
    stop "$plain" "$cluster"
done

say "RDB files, there and back"
if command -v redis-server >/dev/null; then
    scripts/rdb.sh "$bin/meridian" >"$work/rdb.log" 2>&1
    status=$?
    tail -n 30 "$work/rdb.log"
    count "$(total '^[0-9]+ passed' "$work/rdb.log")" "$(total ', [0-9]+ failed' "$work/rdb.log")" $status "RDB files"
else
    skip "no redis-server to exchange RDB files with"
fi

# A program of chaos that exists is run: against Redis where it compares, against two cores where it races.
chaos() {
    local name=$1
    shift
    "$bin/$name" "$@" >"$work/chaos.log" 2>&1
    local status=$?
    tail -n 30 "$work/chaos.log"
    if [ $status -eq 0 ]; then count 1 0 0 "$name"; else count 0 1 1 "$name"; fi
}
if [ "$durability_rounds" -gt 0 ] && [ -x "$bin/durability" ] && [ -x "$bin/meridian" ]; then
    for cores in 1 2; do
        say "durability: $durability_rounds kills, $cores cores"
        chaos durability --binary "$bin/meridian" --rounds "$durability_rounds" --cores "$cores" --seed "$RANDOM"
    done
    say "durability: $durability_rounds kills, sealed files"
    chaos durability --binary "$bin/meridian" --rounds "$durability_rounds" --sealed --seed "$RANDOM"
    if command -v redis-server >/dev/null; then
        say "durability: Redis's own logs are read"
        for seed in 1 2 3; do
            chaos durability --binary "$bin/meridian" --rounds 2 --from-redis --seed "$seed"
        done
    fi
    for planted in no-log lost-tail flipped-bit old-log; do
        chaos durability --binary "$bin/meridian" --rounds 8 --plant "$planted"
    done
    chaos durability --binary "$bin/meridian" --rounds 8 --plant flipped-bit --sealed
fi
if [ -n "$combinations" ]; then
    port=$(free_port)
    if start "meridian" "$work/chaos-server.log" "$port" "$bin/meridian" --port "$port" --cores 2 --enable-debug-command yes --save ""; then
        subject=$started
        if [ "$differential_ops" -gt 0 ] && [ -x "$bin/differential" ]; then
            oracle_port=$(free_port)
            if LC_ALL=C start "redis-server" "$work/oracle.log" "$oracle_port" \
                redis-server --port "$oracle_port" --save "" --appendonly no --enable-debug-command yes; then
                say "differential: $differential_ops operations"
                # Not streams: some of their requests crash Redis 7.0. Those with clients that wait for them are played.
                groups=string,bitmap,generic,list,set,zset,hash,geo,hyperloglog,transactions,scripting,connection,server,acl
                groups=$groups,blocking,pubsub,notifications,tracking,interleaving
                chaos differential --subject "127.0.0.1:$port" --oracle "127.0.0.1:$oracle_port" \
                    --ops "$differential_ops" --allow chaos/allow/redis-7.0.txt --groups "$groups"
                stop "$started"
            else
                skip "no redis-server to compare with"
            fi
        fi
        if [ "$atomicity_seconds" -gt 0 ] && [ -x "$bin/atomicity" ]; then
            say "atomicity: $atomicity_seconds s"
            chaos atomicity --server "127.0.0.1:$port" --seconds "$atomicity_seconds"
        fi
        if ! kill -0 "$subject" 2>/dev/null; then
            count 0 1 1 "the server died: $(tail -n 5 "$work/chaos-server.log")"
        fi
        stop "$subject"
    else
        count 0 1 1 "meridian does not start for the chaos programs"
    fi
fi

# The move off Redis, with redis-py and, where there is Go, go-redis: all phases and back, then with each of the parts hurt.
drill="$PWD/chaos/drill"
if [ -n "$python" ] && [ -x "$bin/meridian" ] && command -v redis-server >/dev/null; then
    go_load=()
    if command -v go >/dev/null && (cd "$drill/go" && go vet ./... && go build -o "$work/drill.go" .); then
        go_load=(--go "$work/drill.go")
    else
        skip "the drill of the move runs without go-redis"
    fi
    # drill NAME ARGS...: one run.
    drill() {
        local name=$1 status
        shift
        PYTHONDONTWRITEBYTECODE=1 timeout 300 "$python/bin/python" "$drill/migrate.py" --meridian "$bin/meridian" \
            --seconds "${DRILL_SECONDS:-10}" --seed "$RANDOM" "$@" >"$work/drill.log" 2>&1
        status=$?
        tail -n 30 "$work/drill.log"
        if [ $status -eq 0 ]; then count 1 0 0 "drill"; else count 0 1 1 "the move off Redis ($name)"; fi
    }
    for run in none meridian source link none:written meridian:written source:written link:written; do
        hurt=${run%:*} side=replica
        [ "$run" = "$hurt" ] || side=written
        say "the move off Redis: hurt is $hurt, the old side is $side"
        drill "hurt: $hurt, old side: $side" --kill "$hurt" --old-side "$side" --rounds "${DRILL_ROUNDS:-4}" "${go_load[@]}"
    done
    say "the move off Redis: a source that only says that it follows is found"
    drill "a planted fault is not found" --plant fence
else
    skip "no redis-py or no redis-server: the move off Redis is not drilled"
fi

say "end"
[ ${#reasons[@]} -eq 0 ] || printf '%s\n' "${reasons[@]}"
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
