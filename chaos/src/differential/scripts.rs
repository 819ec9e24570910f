//! Texts of scripts for the generator. What they answer must depend on nothing but their keys and arguments.

use crate::rng::Rng;

/// Scripts of values, errors and libraries: no key.
const LIBRARY: &[&str] = &[
    "return ARGV[1]",
    "return {ARGV[1], #ARGV, tonumber(ARGV[2]), {1, {2, {3}}}, true, false, 1.9, -1.9, nil, 5}",
    "return {ok = ARGV[1]}",
    "return {err = ARGV[1]}",
    "return redis.error_reply(ARGV[1])",
    "return redis.status_reply('x ' .. ARGV[2])",
    "return redis.sha1hex(ARGV[1])",
    "redis.setresp(3) return {true, false, 1, {double = 1.5}, {map = {a = 1}}, {set = {b = true}}}",
    "return {double = tonumber(ARGV[2]) / 4}",
    "return {big_number = '123456789012345678901234567890'}",
    "return {verbatim_string = {format = 'txt', string = ARGV[1]}}",
    "return tostring(tonumber(ARGV[3]))",
    "return tostring(tonumber(ARGV[2]) / 3)",
    "return tonumber(ARGV[3])",
    "return {pcall(error, ARGV[1])}",
    "local ok, e = pcall(function() error({err = 'MY ' .. ARGV[2]}) end) return e",
    "local ok, e = pcall(function() local t = nil return t.x end) return e",
    "error((ARGV[1]:gsub('[\r\n]', ' ')))",
    "error({err = 'CODE told'})",
    "\n\n  return nosuch",
    "x = 1",
    "redis.x = 1",
    "return redis.nosuch == nil and 'nil'",
    "return cjson.encode({ARGV[1], tonumber(ARGV[2]), {a = {1, 2}}, cjson.null, true})",
    "return cjson.encode(tonumber(ARGV[3]))",
    "return cjson.decode(cjson.encode({ARGV[1], 1.25, {x = ARGV[2]}}))",
    "return cjson.decode(ARGV[1])",
    "return {pcall(cjson.decode, '[1,2' .. ARGV[2])}",
    "return cjson.encode({[1] = 1, [2] = 2, [4] = 4})",
    "return cjson.encode({[tonumber(ARGV[2]) % 50 + 1] = 1})",
    "cjson.encode_number_precision(3) local r = cjson.encode(3.14159) cjson.encode_number_precision(14) return r",
    "return {cjson.encode_sparse_array()}",
    "return cmsgpack.pack(ARGV[1], tonumber(ARGV[2]), {1, 2, {a = 1}}, true, 1.5)",
    "return {cmsgpack.unpack(cmsgpack.pack(tonumber(ARGV[2]), ARGV[1], {ARGV[1], 3}))}",
    "return {pcall(cmsgpack.unpack, ARGV[1])}",
    "return {cmsgpack.unpack_one('\\1\\2\\3', tonumber(ARGV[2]) % 4)}",
    "return struct.pack('>I4<i2bBhHs', tonumber(ARGV[2]) % 65536, -5, 1, 2, 3, 4, ARGV[1])",
    "return {struct.unpack('<i4>h', struct.pack('<i4>h', tonumber(ARGV[2]) % 100000, -7))}",
    "return {pcall(struct.unpack, '>I4', ARGV[1])}",
    "return {pcall(struct.pack, ARGV[1], 1)}",
    "local p = struct.pack return p('q', 1)",
    "local t = {} for n = 1, 40 do t[n] = n end return {pcall(unpack, t)}",
    "return #{pcall(unpack, {1, 2, 3}, 1, tonumber(ARGV[2]) % 300)}",
    "return struct.size('!8bi8')",
    "local n = tonumber(ARGV[2]) % 4294967296 return {bit.band(n, 255), bit.bor(n, 1), bit.bxor(n, 7), bit.bnot(n), bit.lshift(n, 3), bit.rshift(n, 3), bit.arshift(n, 3), bit.rol(n, 5), bit.ror(n, 5), bit.bswap(n), bit.tohex(n), bit.tohex(n, -4)}",
    "return {pcall(bit.band, ARGV[1])}",
    "return {string.find(ARGV[1], '(%a)(%d?)'), string.format('%5.2f|%s|%q', 1.5, 'x', 'y'), (string.gsub(ARGV[1], '%c', '.'))}",
    "return table.concat({1, 2, 'x'}, ',')",
    "return {select('#', 1, nil, 3), unpack({1, 2, 3})}",
    "math.randomseed(tonumber(ARGV[2]) % 1000) return {math.random(100), math.random(5, 9), tostring(math.random())}",
    "return {tostring(math.huge), tostring(-math.huge), math.floor(1.5), math.max(1, 5), tostring(2^53), tostring(1e100)}",
    "return loadstring('return 7')()",
    "return type(_G) .. type(rawget(_G, 'redis')) .. tostring(rawget(_G, 'nosuch'))",
    "local t = setmetatable({}, {__index = function(_, k) return k .. '!' end}) return t.x",
    "local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 end) return {co(1), co(5)}",
    "local n = 0 for k, v in pairs({1, 2, 3, a = 4}) do n = n + v end return n",
    "return {pcall(redis.call, 'nosuch')}",
    "return redis.pcall('get')",
    "return redis.call('ping', ARGV[1])",
    "return redis.pcall('echo')",
    "return redis.pcall('multi')",
    "return redis.pcall()",
    "return redis.pcall({})",
    "return redis.call()",
    "return redis.acl_check_cmd('nosuch')",
    "return redis.setresp(4)",
    "return redis.set_repl(redis.REPL_ALL)",
    "return redis.log(redis.LOG_DEBUG, 'x')",
    "return redis.log(1)",
    "return {redis.REPL_ALL, redis.REPL_NONE, redis.LOG_DEBUG, redis.LOG_WARNING, redis.replicate_commands()}",
    "return math.nosuch()",
    "return ARGV[1] + 1",
    "return {1, 2",
    "return tostring(nil) .. type(ARGV) .. #KEYS",
];

/// Scripts of one key and two arguments.
const KEY: &[&str] = &[
    "return redis.call('type', KEYS[1])",
    "return redis.call('get', KEYS[1])",
    "return redis.pcall('get', KEYS[1])",
    "return redis.call('set', KEYS[1], ARGV[1])",
    "redis.call('set', KEYS[1], ARGV[1], 'ex', 100000) return redis.call('get', KEYS[1])",
    "return redis.call('set', KEYS[1], 12)",
    "return redis.call('incrby', KEYS[1], ARGV[2])",
    "return redis.pcall('incr', KEYS[1])",
    "return redis.call('append', KEYS[1], ARGV[1])",
    "return redis.call('del', KEYS[1])",
    "return {redis.pcall('llen', KEYS[1]), redis.pcall('scard', KEYS[1]), redis.pcall('hlen', KEYS[1]), redis.pcall('zcard', KEYS[1])}",
    "return redis.pcall('lrange', KEYS[1], 0, 5)",
    "return {redis.pcall('rpush', KEYS[1], ARGV[1], 1, 2), redis.pcall('lpop', KEYS[1])}",
    "return redis.pcall('zrange', KEYS[1], 0, 5, 'withscores')",
    "redis.setresp(3) return redis.pcall('zrange', KEYS[1], 0, 5, 'withscores')",
    "redis.setresp(3) return redis.pcall('zscore', KEYS[1], ARGV[1])",
    "return redis.pcall('zadd', KEYS[1], ARGV[2], ARGV[1])",
    "return redis.pcall('hset', KEYS[1], 'f', ARGV[1], 'g', ARGV[2])",
    "redis.setresp(3) return redis.pcall('hget', KEYS[1], 'nosuch')",
    "return redis.pcall('sadd', KEYS[1], ARGV[1], ARGV[2])",
    "return redis.pcall('hincrby', KEYS[1], 'n', ARGV[2])",
    "redis.call('set', KEYS[1], ARGV[1]) error('after')",
    "redis.call('set', KEYS[1], ARGV[1]) return redis.call('lpush', KEYS[1], 1)",
    "for n = 1, 50 do redis.pcall('rpush', KEYS[1], n) end return redis.pcall('llen', KEYS[1])",
    "return redis.call('exists', KEYS[1], KEYS[1])",
    "return redis.pcall('setrange', KEYS[1], 3, ARGV[1])",
    "return type(redis.pcall('hgetall', KEYS[1])[1])",
    "redis.setresp(3) return type(redis.pcall('hgetall', KEYS[1]).map)",
    "return redis.pcall('expire', KEYS[1], 100000)",
];

/// Scripts that cannot be run as they are.
const BAD: &[&str] = &[
    "return 1 +",
    "#!lua flags=no-writes\nreturn redis.pcall('set', 'k', 1)",
    "#!lua flags=nosuch\nreturn 1",
    "#!lua name=x\nreturn 1",
    "#!lua",
    "#!python\nreturn 1",
    "#!lua\nreturn 5",
    "#!lua flags=allow-stale,allow-oom\n\nreturn nosuch",
    "goto = ",
    "return 'unfinished",
];

/// Libraries; all have the same name.
const LIBRARIES: &[&str] = &[
    "#!lua name=lib1\nredis.register_function('f1', function(keys, args) return {keys[1], args[1], #keys, #args} end)\n",
    "#!lua name=lib1\nredis.register_function('f1', function(keys, args) return redis.pcall('set', keys[1], args[1]) end)\n",
    "#!lua name=lib1\nredis.register_function{function_name='f1', callback=function(keys, args) return redis.call('get', keys[1]) end, flags={'no-writes'}, description='reads'}\n",
    "#!lua name=lib1\nreturn 1",
    "#!lua name=lib1\nreturn 1 +",
    "#!lua name=lib1\nredis.call('ping')",
    "#!lua name=lib1\nmath.floor(1)",
    "#!lua name=lib1\nx = 1",
    "#!lua name=lib1\nredis.register_function('f1')",
    "#!lua name=lib1\nredis.register_function('f 1', function() end)",
    "#!lua name=lib1\nredis.register_function('f1', function() end) redis.register_function('f1', function() end)",
    "#!lua name=lib1\nredis.register_function{function_name='f1', callback=function() end, flags={'nosuch'}}",
    "#!lua name=lib1\nredis.register_function{callback=function() end}",
    "#!lua name=lib1\nredis.register_function{function_name='f1', nosuch=1}",
    "#!lua nosuch=lib1\n",
    "#!lua\n",
    "#!nosuch name=lib1\n",
    "return 1",
];

fn one_of(texts: &[&str], rng: &mut Rng) -> Vec<u8> {
    let at = (rng.next() % texts.len().max(1) as u64) as usize;
    texts.get(at).copied().unwrap_or_default().into()
}

pub(super) fn library_script(rng: &mut Rng) -> Vec<u8> {
    one_of(LIBRARY, rng)
}

pub(super) fn key_script(rng: &mut Rng) -> Vec<u8> {
    one_of(KEY, rng)
}

pub(super) fn bad_script(rng: &mut Rng) -> Vec<u8> {
    one_of(BAD, rng)
}

pub(super) fn library(rng: &mut Rng) -> Vec<u8> {
    one_of(LIBRARIES, rng)
}

/// The digest of `return ARGV[1]`, or of a script that is not there.
pub(super) fn digest(rng: &mut Rng) -> Vec<u8> {
    let texts = [
        "098e0f0d1448c0a81dafe820f66d460eb09263da",
        "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB",
        "short",
    ];
    one_of(&texts, rng)
}

pub(super) fn function(rng: &mut Rng) -> Vec<u8> {
    one_of(&["f1", "f1", "F1", "nosuch"], rng)
}
