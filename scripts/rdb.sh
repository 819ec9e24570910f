#!/usr/bin/env bash
# Data sets with every type go Meridian -> RDB -> redis-server -> RDB -> Meridian unchanged, and back; functions and deadlines too.
#
#   scripts/rdb.sh MERIDIAN [REDIS_SERVER...]     programs; without the others, redis-server of the PATH
#
# Ends with one line "N passed, N failed".
set -uo pipefail
meridian=$1
shift
[ $# -gt 0 ] || set -- redis-server
cores=${CORES:-2}
work=$(mktemp -d)
pids=()
passed=0
failed=0
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT

check() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; diff <(echo "$2") <(echo "$3") | head -n 20; fi
}

# launch PORT COMMAND...: a server, once it answers PING; its pid in $pid.
launch() {
    local port=$1 i
    shift
    LC_ALL=C "$@" >"$work/log.$port" 2>&1 </dev/null &
    pid=$!
    pids+=("$pid")
    for i in $(seq 300); do
        [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ] && return 0
        sleep 0.05
    done
    echo "FAILED: $1 does not answer"; tail -n 3 "$work/log.$port"; failed=$((failed + 1)); return 1
}

halt() {
    kill -TERM "$1"
    local i
    for i in $(seq 200); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.05; done
    echo "FAILED: a server does not stop"; failed=$((failed + 1)); kill -9 "$1"
}

# All keys of a database with type, deadline and a sum over their elements, in order.
cat >"$work/show.lua" <<'LUA'
local function flat(value)
    if type(value) == 'table' then
        if value.ok then return value.ok end
        local parts = {}
        for i, part in ipairs(value) do parts[i] = flat(part) end
        return '[' .. table.concat(parts, '\1') .. ']'
    end
    return tostring(value)
end
local function sorted(list) table.sort(list); return list end
local keys, out = redis.call('KEYS', '*'), {}
table.sort(keys)
for _, key in ipairs(keys) do
    local kind, value = redis.call('TYPE', key).ok
    if kind == 'string' then value = redis.call('GET', key)
    elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
    elseif kind == 'set' then value = sorted(redis.call('SMEMBERS', key))
    elseif kind == 'zset' then
        -- (Versions differ in how they write a score.)
        value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        for i = 2, #value, 2 do value[i] = string.format('%.17g', tonumber(value[i])) end
    elseif kind == 'hash' then
        local all, pairs_of = redis.call('HGETALL', key), {}
        for i = 1, #all, 2 do pairs_of[#pairs_of + 1] = all[i] .. '\2' .. all[i + 1] end
        value = sorted(pairs_of)
    else
        local groups, rest = redis.call('XINFO', 'GROUPS', key), {}
        for i, group in ipairs(groups) do rest[i] = redis.call('XPENDING', key, group[2], '-', '+', 1000) end
        local info = redis.call('XINFO', 'STREAM', key)
        value = { redis.call('XRANGE', key, '-', '+'), groups, info[2], info[8], info[10], info[12] }
        for _, pending in ipairs(rest) do
            for _, entry in ipairs(pending) do entry[3] = 0 end
        end
        value[#value + 1] = rest
    end
    out[#out + 1] = key .. ' ' .. kind .. ' ' .. redis.call('PEXPIRETIME', key) .. ' ' .. redis.sha1hex(flat(value))
end
return out
LUA

show() {
    local db
    for db in 0 3; do redis-cli -p "$1" -n "$db" --eval "$work/show.lua"; done
    redis-cli -p "$1" function list withcode
}

# Every type, small and large, with and without deadline; what compresses and what does not.
cat >"$work/fill.lua" <<'LUA'
local tag = ARGV[1]
local function key(name) return tag .. ':' .. name end
local function each(n, f) for i = 1, n do f(i) end end
local far = 4102444800000
redis.call('SET', key('text'), 'some text')
redis.call('SET', key('empty'), '')
redis.call('SET', key('int'), '-1234567890123456789')
redis.call('SET', key('binary'), 'a\0b\255\r\n')
redis.call('SET', key('late'), 'x', 'PXAT', far)
redis.call('SET', key('large'), string.rep('abcdefgh', 40000), 'PXAT', far + 1)
redis.call('SET', key('noise'), redis.sha1hex(tag) .. redis.sha1hex(tag .. 1) .. redis.sha1hex(tag .. 2))
for _, n in ipairs({ 3, 300, 6000 }) do
    each(n, function(i) redis.call('RPUSH', key('list' .. n), i % 7 == 0 and i * 99991 or 'element ' .. i) end)
    each(n, function(i) redis.call('SADD', key('ints' .. n), i * 3 - 7) end)
    each(n, function(i) redis.call('SADD', key('set' .. n), i % 5 == 0 and i or 'member ' .. i) end)
    each(n, function(i) redis.call('HSET', key('hash' .. n), 'field ' .. i, i % 3 == 0 and i or string.rep('v', i % 90)) end)
    each(n, function(i) redis.call('ZADD', key('zset' .. n), i / 7 - 20, 'member ' .. i) end)
    each(n, function(i) redis.call('XADD', key('stream' .. n), i .. '-1', 'a', i, i % 9 == 0 and 'b' or 'c', 'text') end)
    redis.call('PEXPIREAT', key('set' .. n), far + n)
end
redis.call('ZADD', key('zset3'), '-inf', 'low', 'inf', 'high', '1e300', 'wide', '0.1', 'tenth')
redis.call('HSET', key('wide'), 'f', string.rep('w', 100))
redis.call('XGROUP', 'CREATE', key('stream300'), 'g', '0')
redis.call('XGROUP', 'CREATE', key('stream300'), 'empty', '$')
redis.call('XREADGROUP', 'GROUP', 'g', 'alice', 'COUNT', 20, 'STREAMS', key('stream300'), '>')
redis.call('XREADGROUP', 'GROUP', 'g', 'bob', 'COUNT', 7, 'STREAMS', key('stream300'), '>')
redis.call('XDEL', key('stream300'), '5-1', '250-1')
redis.call('XADD', key('stream none'), 'MAXLEN', 0, '7-7', 'f', 'v')
return redis.status_reply('OK')
LUA

fill() {
    redis-cli -p "$1" -n 0 --eval "$work/fill.lua" , plain >/dev/null
    redis-cli -p "$1" -n 3 --eval "$work/fill.lua" , '{one}' >/dev/null
    redis-cli -p "$1" function load '#!lua name=lib
redis.register_function("answer", function() return 42 end)' >/dev/null
}

own() { launch "$1" "$meridian" --port "$1" --dir "$work" --cores "$cores" --save 3600 1 --enable-debug-command yes --script-kill-after-ms 0 "${@:2}"; }

port=$((22000 + RANDOM % 8000))
for redis in "$@"; do
    command -v "$redis" >/dev/null || { echo "SKIPPED: no $redis"; continue; }
    rm -f "$work"/*.rdb
    own $((port += 1)) || continue
    fill "$port"
    first=$(show "$port")
    check "SAVE" OK "$(redis-cli -p "$port" save)"
    check "DEBUG RELOAD" "OK $first" "$(redis-cli -p "$port" debug reload) $(show "$port")"
    cp "$work/dump.rdb" "$work/ours.rdb"
    redis-cli -p "$port" set plain:last written >/dev/null
    first=$(show "$port")
    halt "$pid"
    check "redis-check-rdb" 1 "$(redis-check-rdb "$work/ours.rdb" | grep -c 'RDB looks OK')"
    launch $((port += 1)) "$redis" --port "$port" --dir "$work" --save 3600 1 || continue
    check "$redis reads what SIGTERM left" "$first" "$(show "$port")"
    redis-cli -p "$port" set plain:back again >/dev/null
    second=$(show "$port")
    check "$redis saves" OK "$(redis-cli -p "$port" save)"
    halt "$pid"
    own $((port += 1)) || continue
    check "what $redis saved is read" "$second" "$(show "$port")"
    redis-cli -p "$port" bgsave >/dev/null
    redis-cli -p "$port" flushall >/dev/null
    while [[ $(redis-cli -p "$port" info persistence) == *rdb_bgsave_in_progress:1* ]]; do sleep 0.02; done
    redis-cli -p "$port" shutdown nosave >/dev/null 2>&1
    sleep 0.3
    own $((port += 1)) --rdb-version 9 || continue
    check "BGSAVE is the instant of its beginning" "$second" "$(show "$port")"
    halt "$pid"
    # A damaged file stops the start, and stays as it is.
    size=$(stat -c %s "$work/dump.rdb")
    printf 'X' | dd of="$work/dump.rdb" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
    before=$(sha1sum "$work/dump.rdb")
    timeout 20 "$meridian" --port $((port += 1)) --dir "$work" --cores "$cores" >"$work/damaged.log" 2>&1
    check "a damaged file stops the start" 1 $?
    check "the damaged file is named" 1 "$(grep -cE 'dump.rdb: at byte [0-9]+' "$work/damaged.log" | sed 's/[1-9][0-9]*/1/')"
    check "the damaged file stays" "$before" "$(sha1sum "$work/dump.rdb")"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
