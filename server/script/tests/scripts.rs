//! Scripts in, replies out, with a host that knows a handful of commands.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use protocol::{Args, Reply, Resp};
use script::{Called, Engine, Halt, Host, Libraries, Outcome, Run, Script, Watchdog};

#[derive(Default)]
struct Fake {
    logged: Vec<(u8, String)>,
    calls: usize,
}

impl Host for Fake {
    fn call(&mut self, mut args: Args<'_>, resp: Resp, out: &mut Vec<u8>) -> Called {
        self.calls += 1;
        let name = args.word(0).unwrap().to_ascii_lowercase();
        let mut reply = Reply::new(out, resp);
        match name.as_slice() {
            b"ping" => reply.simple("PONG"),
            b"echo" => reply.bulk(args.bytes().unwrap()),
            b"raw" => reply.raw(&args.bytes().unwrap().replace(b"~~", b"\r\n")),
            b"words" => {
                reply.array(args.left());
                args.rest().for_each(|word| reply.bulk(word));
            }
            b"fail" => reply.raw(b"-WRONGTYPE not so\r\n"),
            b"away" => return Called::Abandon,
            _ => return Called::Refused("ERR Unknown Redis command called from script".to_owned()),
        }
        Called::Replied
    }

    fn may_call(&mut self, args: Args<'_>) -> Option<bool> {
        match args.word(0)? {
            b"ping" => Some(true),
            b"never" => Some(false),
            _ => None,
        }
    }

    fn log(&mut self, level: u8, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        self.logged.push((level, text));
    }
}

trait Replace {
    fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
}

impl Replace for [u8] {
    fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(self).into_owned();
        let (from, to) = (std::str::from_utf8(from), std::str::from_utf8(to));
        text.replace(from.unwrap(), to.unwrap()).into_bytes()
    }
}

/// Stops the script once it has been asked so often: kills it, or has it abandoned.
struct After(Rc<Cell<u64>>, Rc<Cell<bool>>);

impl Watchdog for After {
    fn look(&self) -> Option<Halt> {
        self.0.set(self.0.get().saturating_sub(1));
        (self.0.get() == 0).then(|| match self.1.get() {
            true => Halt::Abandon,
            false => Halt::Kill("ERR killed".to_owned()),
        })
    }

    fn cpu_us(&self) -> u64 {
        1_500_000
    }
}

struct Bench {
    engine: Engine,
    host: Fake,
    looks: Rc<Cell<u64>>,
    abandons: Rc<Cell<bool>>,
}

impl Bench {
    fn new() -> Bench {
        let looks = Rc::new(Cell::new(u64::MAX));
        let abandons = Rc::default();
        let watchdog = Box::new(After(Rc::clone(&looks), Rc::clone(&abandons)));
        Bench {
            engine: Engine::new(watchdog, 64 << 20).unwrap(),
            host: Fake::default(),
            looks,
            abandons,
        }
    }

    fn eval(&mut self, body: &str, resp: Resp) -> (String, Outcome) {
        let script = match Script::new(body.as_bytes()) {
            Ok(script) => Arc::new(script),
            Err(text) => return (text, Outcome::Done),
        };
        if let Err(text) = self.engine.compile(&script) {
            return (text, Outcome::Done);
        }
        let mut out = Vec::new();
        let (keys, args): ([&[u8]; 2], [&[u8]; 1]) = ([b"k1", b"k2"], [b"a1"]);
        let run = Run::Script(&script);
        let outcome = self
            .engine
            .run(run, &mut self.host, (&keys, &args), resp, &mut out);
        (String::from_utf8_lossy(&out).into_owned(), outcome)
    }

    /// The reply with `~` for line ends and `SHA` for the script's name.
    fn reply(&mut self, body: &str, resp: Resp) -> String {
        let sha = script::sha1_hex(body.as_bytes());
        let (out, _) = self.eval(body, resp);
        let sha = std::str::from_utf8(&sha).unwrap();
        out.replace("\r\n", "~").replace(sha, "SHA")
    }
}

#[track_caller]
fn check(table: &[(&str, &str)]) {
    let mut bench = Bench::new();
    for (body, expected) in table {
        assert_eq!(bench.reply(body, Resp::V2), *expected, "{body}");
    }
}

#[test]
fn values_become_replies() {
    check(&[
        ("return 1", ":1~"),
        ("return 3.99", ":3~"),
        ("return -3.99", ":-3~"),
        ("return 1e300", ":-9223372036854775808~"),
        ("return 'x'", "$1~x~"),
        ("return nil", "$-1~"),
        ("", "$-1~"),
        ("return true", ":1~"),
        ("return false", "$-1~"),
        ("return {1, 'a', {2}, nil, 5}", "*3~:1~$1~a~*1~:2~"),
        ("return {}", "*0~"),
        ("return {ok = 'fine'}", "+fine~"),
        ("return {err = 'MY bad'}", "-MY bad~"),
        ("return {err = 'MY\\nbad\\r\\n\\n'}", "-MY bad~"),
        ("return {1, {err = 'MY bad\\n\\0x'}}", "*2~:1~-MY bad~"),
        ("return {ok = 'a\\r\\nb'}", "+a  b~"),
        ("return {double = 1.5}", "$3~1.5~"),
        ("return {map = {a = 1}}", "*2~$1~a~:1~"),
        ("return {set = {a = true}}", "*1~$1~a~"),
        ("return {big_number = '12'}", "$2~12~"),
        (
            "return {verbatim_string = {format = 'txt', string = 'hi'}}",
            "$2~hi~",
        ),
        (
            "return print",
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'print' script: SHA, on @user_script:1.~",
        ),
        ("return tostring", "$-1~"),
        (
            "return {KEYS[1], KEYS[2], ARGV[1], #KEYS, #ARGV}",
            "*5~$2~k1~$2~k2~$2~a1~:2~:1~",
        ),
        ("return select('#', ...)", ":0~"),
    ]);
    let mut bench = Bench::new();
    for (body, expected) in [
        ("return true", ":1~"),
        ("return nil", "_~"),
        ("return {double = 1.5}", ",1.5~"),
        ("return {map = {a = 1}}", "%1~$1~a~:1~"),
        ("return {set = {a = true}}", "~1~$1~a~"),
        ("return {big_number = '12'}", "(12~"),
        (
            "return {verbatim_string = {format = 'mkd', string = 'hi'}}",
            "=6~mkd:hi~",
        ),
        ("redis.setresp(3) return true", "#t~"),
        ("redis.setresp(3) return false", "#f~"),
    ] {
        assert_eq!(bench.reply(body, Resp::V3), expected, "{body}");
    }
    assert_eq!(
        bench.reply("redis.setresp(3) return false", Resp::V2),
        ":0~"
    );
}

#[test]
fn replies_become_values() {
    check(&[
        ("return redis.call('ping').ok", "$4~PONG~"),
        ("return redis.call('PING')", "+PONG~"),
        ("return redis.call('raw', ':5~~') + 1", ":6~"),
        ("return type(redis.call('raw', '$-1~~'))", "$7~boolean~"),
        (
            "return redis.call('raw', '*2~~$1~~a~~*-1~~')",
            "*2~$1~a~$-1~",
        ),
        ("return type(redis.call('raw', '_~~'))", "$3~nil~"),
        ("return redis.call('raw', '%1~~+a~~:1~~').map", "*0~"),
        ("return redis.call('raw', '%1~~$1~~a~~:1~~').map.a", ":1~"),
        (
            "return tostring(redis.call('raw', '~2~~$1~~a~~$1~~b~~').set.b)",
            "$4~true~",
        ),
        (
            "return tostring(redis.call('raw', ',1.25~~').double)",
            "$4~1.25~",
        ),
        ("return tostring(redis.call('raw', '#t~~'))", "$4~true~"),
        ("return redis.call('raw', '(123~~').big_number", "$3~123~"),
        (
            "return redis.call('raw', '=6~~txt:hi~~').verbatim_string.string",
            "$2~hi~",
        ),
        (
            "return redis.call('words', 1, 1.5, 1e15, -0, 1e100, 0/0 == 0/0 and 1 or 2, 'x')",
            "*7~$1~1~$3~1.5~$16~1000000000000000~$1~0~$6~1e+100~$1~2~$1~x~",
        ),
    ]);
}

#[test]
fn errors_say_where() {
    check(&[
        (
            "return redis.call('fail')",
            "-WRONGTYPE not so script: SHA, on @user_script:1.~",
        ),
        (
            "\n\nredis.call('fail')",
            "-WRONGTYPE not so script: SHA, on @user_script:3.~",
        ),
        ("return redis.pcall('fail')", "-WRONGTYPE not so~"),
        ("return redis.pcall('fail').err", "$16~WRONGTYPE not so~"),
        (
            "return redis.call('nosuch')",
            "-ERR Unknown Redis command called from script script: SHA, on @user_script:1.~",
        ),
        (
            "return redis.call()",
            "-ERR Please specify at least one argument for this redis lib call script: SHA, on @user_script:1.~",
        ),
        (
            "return redis.call('ping', {})",
            "-ERR Lua redis lib command arguments must be strings or integers script: SHA, on @user_script:1.~",
        ),
        (
            "return redis.pcall({}).err",
            "$63~ERR Lua redis lib command arguments must be strings or integers~",
        ),
        (
            "error('x')",
            "-ERR user_script:1: x script: SHA, on @user_script:1.~",
        ),
        (
            "error({err = 'MY x'})",
            "-MY x script: SHA, on @user_script:1.~",
        ),
        (
            "return {pcall(redis.call, 'fail')}",
            "*2~$-1~$16~WRONGTYPE not so~",
        ),
        (
            "local ok, e = pcall(redis.call, 'fail') return e",
            "$16~WRONGTYPE not so~",
        ),
        (
            "local ok, e = pcall(function() error('x') end) return e",
            "$16~user_script:1: x~",
        ),
        ("return redis.error_reply('My error')", "-My error~"),
        ("return redis.error_reply('NOSPACE')", "-ERR NOSPACE~"),
        ("return redis.error_reply('-WITH dash')", "-WITH dash~"),
        ("return redis.error_reply('ZERO\\0 and more')", "-ERR ZERO~"),
        (
            "return redis.error_reply()",
            "-ERR wrong number or type of arguments~",
        ),
        ("return redis.status_reply('FINE')", "+FINE~"),
        (
            "return redis.sha1hex('')",
            "$40~da39a3ee5e6b4b0d3255bfef95601890afd80709~",
        ),
        (
            "local t = nil; return t.x",
            "-ERR user_script:1: attempt to index local 't' (a nil value) script: SHA, on @user_script:1.~",
        ),
        (
            "return 1 +",
            "Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'",
        ),
        (
            "return cjson.decode('[')",
            "-ERR user_script:1: Expected value but found T_END at character 2 script: SHA, on @user_script:1.~",
        ),
        (
            "return string.rep()",
            "-ERR user_script:1: bad argument #1 to 'rep' (string expected, got no value) script: SHA, on @user_script:1.~",
        ),
        (
            "redis.log(9, 'x')",
            "-ERR Invalid debug level. script: SHA, on @user_script:1.~",
        ),
        (
            "redis.setresp(4)",
            "-ERR RESP version must be 2 or 3. script: SHA, on @user_script:1.~",
        ),
        (
            "redis.set_repl(9)",
            "-ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE. script: SHA, on @user_script:1.~",
        ),
        ("return tostring(redis.acl_check_cmd('never'))", "$5~false~"),
        (
            "return redis.acl_check_cmd('nosuch')",
            "-ERR Invalid command passed to redis.acl_check_cmd() script: SHA, on @user_script:1.~",
        ),
        (
            "return {redis.REDIS_VERSION, redis.REDIS_VERSION_NUM, redis.LOG_WARNING, redis.REPL_ALL}",
            "*4~$5~7.4.9~:459785~:3~:3~",
        ),
        ("return redis.replicate_commands()", ":1~"),
    ]);
}

#[test]
fn the_sandbox_holds() {
    let readonly =
        "-ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.~";
    check(&[
        ("x = 1", readonly),
        ("KEYS = 1", readonly),
        ("redis.call = 1", readonly),
        ("function f() end", readonly),
        ("string.rep = nil", readonly),
        ("rawset(_G, 'x', 1)", readonly),
        ("rawset(redis, 'x', 1)", readonly),
        ("table.insert(redis, 1)", readonly),
        ("setmetatable(_G, nil)", readonly),
        ("setfenv(0, {})", readonly),
        ("getmetatable('').__index.rep = 1", readonly),
        ("getmetatable('').__index = 1", readonly),
        ("return tostring(getmetatable(redis))", "$3~nil~"),
        ("return rawget(_G, 'redis') == redis and 1 or 0", ":1~"),
        ("return next(redis) and 1", ":1~"),
        (
            "local n = 0 for k in pairs(redis) do n = n + 1 end return n > 15 and 1",
            ":1~",
        ),
        ("local _, t = pairs(redis) t.x = 1", readonly),
        ("return _G.redis == redis and 1", ":1~"),
        (
            "return tostring(rawget(_G, 'dofile') or rawget(_G, 'debug') or rawget(_G, 'require'))",
            "$3~nil~",
        ),
        ("return getfenv(0) == _G and 1", ":1~"),
        ("return getfenv(redis.call) == _G and 1", ":1~"),
        ("return getfenv(string.rep) == _G and 1", ":1~"),
        ("return tostring(loadstring('\\27Lua'))", "$3~nil~"),
        (
            "return tostring(load(function() return nil end) ~= nil)",
            "$4~true~",
        ),
        (
            "local p = {'return ', '7'} local i = 0 return load(function() i = i + 1 return p[i] end)()",
            ":7~",
        ),
        ("return loadstring('return 5')()", ":5~"),
        (
            "return loadstring('x = 5')()",
            &readonly
                .replace("user_script:1:", "[string \"x = 5\"]:1:")
                .replace("@user_script:1", "x = 5:1"),
        ),
        (
            "return os.time()",
            "-ERR user_script:1: attempt to call field 'time' (a nil value) script: SHA, on @user_script:1.~",
        ),
        ("return tostring(os.clock())", "$3~1.5~"),
        ("os.clock = 1", readonly),
        ("return ('x'):rep(3)", "$3~xxx~"),
        (
            "return ('x'):rep(1e15)",
            "-ERR user_script:1: resulting string too large script: SHA, on @user_script:1.~",
        ),
        ("return (''):rep(1e15)", "$0~~"),
        ("return #('x'):rep(5000)", ":5000~"),
        (
            "return ('a'):rep(9000):find(('a?'):rep(9000))",
            "-ERR user_script:1: pattern too complex script: SHA, on @user_script:1.~",
        ),
        (
            "local function f() return 1 + f() end return f()",
            "-ERR user_script:1: stack overflow script: SHA, on @user_script:1.~",
        ),
        (
            "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
            "-ERR Error running script SHA, not enough memory~",
        ),
        (
            "local a = {} a[1] = a return cjson.encode(a)",
            "-ERR user_script:1: Cannot serialise, excessive nesting (1001) script: SHA, on @user_script:1.~",
        ),
        (
            "local s = ('x'):rep(2e7) local t = {} for i = 1, 100 do t[i] = s end return t",
            "-ERR the script's reply is too large~",
        ),
        (
            "local s = ('x'):rep(2e7) local t = {} for i = 1, 100 do t[i] = s end return cjson.encode(t)",
            "-ERR user_script:1: resulting string too large script: SHA, on @user_script:1.~",
        ),
        (
            "collectgarbage('stop') return type(collectgarbage('count'))",
            "$6~number~",
        ),
        (
            "local co = coroutine.wrap(function() coroutine.yield(redis.call('echo', 'in')) end) return co()",
            "$2~in~",
        ),
        ("return 1", ":1~"),
    ]);
    let mut bench = Bench::new();
    let nested = bench.reply("local a = {} a[1] = a return a", Resp::V2);
    assert!(nested.ends_with("*1~-ERR reached lua stack limit~"));
}

#[test]
fn libraries_do_as_redis_has_them() {
    check(&[
        (
            "return cjson.encode({1, 2, {a = 'x/\"\\n'}})",
            "$21~[1,2,{\"a\":\"x\\/\\\"\\n\"}]~",
        ),
        ("return cjson.encode({[1] = 1, [3] = 3})", "$10~[1,null,3]~"),
        (
            "return cjson.encode({[100] = 1})",
            "-ERR user_script:1: Cannot serialise table: excessively sparse array script: SHA, on @user_script:1.~",
        ),
        (
            "cjson.encode_sparse_array(true) local r = cjson.encode({[100] = 1}) cjson.encode_sparse_array(false) return r",
            "$9~{\"100\":1}~",
        ),
        (
            "return cjson.encode({}) .. cjson.encode({cjson.null, true, 0.1, 1e20, 123456789012345})",
            "$43~{}[null,true,0.1,1e+20,1.2345678901234e+14]~",
        ),
        (
            "return cjson.encode(0/0)",
            "-ERR user_script:1: Cannot serialise number: must not be NaN or Inf script: SHA, on @user_script:1.~",
        ),
        (
            "return cjson.encode(print or nil)",
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'print' script: SHA, on @user_script:1.~",
        ),
        (
            "return cjson.encode(type)",
            "-ERR user_script:1: Cannot serialise function: type not supported script: SHA, on @user_script:1.~",
        ),
        (
            "local t = cjson.decode('{\"a\":[1,2.5,\"\\\\u00e9\\\\ud83d\\\\ude00\",null,true]}') return {t.a[1], tostring(t.a[2]), t.a[3], t.a[4] == cjson.null and 1, t.a[5]}",
            "*5~:1~$3~2.5~$6~é😀~:1~:1~",
        ),
        (
            "return tostring(cjson.decode('1e5')) .. tostring(cjson.decode('0x10'))",
            "$8~10000016~",
        ),
        (
            "cjson.decode('{\"a\" 1}')",
            "-ERR user_script:1: Expected colon but found T_NUMBER at character 6 script: SHA, on @user_script:1.~",
        ),
        (
            "cjson.decode('nope')",
            "-ERR user_script:1: Expected value but found invalid token at character 1 script: SHA, on @user_script:1.~",
        ),
        (
            "cjson.decode('')",
            "-ERR user_script:1: Expected value but found T_END at character 1 script: SHA, on @user_script:1.~",
        ),
        (
            "cjson.decode('1 2')",
            "-ERR user_script:1: Expected the end but found T_NUMBER at character 3 script: SHA, on @user_script:1.~",
        ),
        (
            "cjson.decode()",
            "-ERR user_script:1: bad argument #1 to 'decode' (expected 1 argument) script: SHA, on @user_script:1.~",
        ),
        (
            "local x = cmsgpack.unpack(cmsgpack.pack({a = {1, 2, 3}, b = 1.5})) return {#x.a, tostring(x.b)}",
            "*2~:3~$3~1.5~",
        ),
        (
            "local s = cmsgpack.pack({1, -1, 300, 'x', true, 1e10, 0.1}, 5) local h = '' for i = 1, #s do h = h .. bit.tohex(s:byte(i), 2) end return h",
            "$56~9701ffcd012ca178c3cf00000002540be400cb3fb999999999999a05~",
        ),
        ("return {cmsgpack.unpack_one('\\1\\2\\3')}", "*2~:1~:1~"),
        ("return {cmsgpack.unpack_one('\\1\\2\\3', 2)}", "*2~:-1~:3~"),
        (
            "return {pcall(cmsgpack.unpack_one, '\\1\\2\\3', 0/0)}",
            "*2~$-1~$58~Invalid request to unpack with offset of 0 and limit of 3.~",
        ),
        (
            "return {cmsgpack.unpack_limit('\\1\\2\\3', 2)}",
            "*3~:2~:1~:2~",
        ),
        ("return {cmsgpack.unpack('\\1\\2\\3')}", "*3~:1~:2~:3~"),
        (
            "return cmsgpack.unpack('\\146\\1')",
            "-ERR user_script:1: Missing bytes in input. script: SHA, on @user_script:1.~",
        ),
        (
            "return cmsgpack.unpack('\\193')",
            "-ERR user_script:1: Bad data format in input. script: SHA, on @user_script:1.~",
        ),
        (
            "return {bit.band(0xff, 0x0f), bit.bor(1, 6), bit.bxor(5, 1), bit.bnot(0), bit.lshift(1, 31), bit.rshift(-1, 28), bit.arshift(-8, 1), bit.rol(0x80000001, 1), bit.tobit(0xffffffff)}",
            "*9~:15~:7~:4~:-1~:-2147483648~:15~:-4~:3~:-1~",
        ),
        (
            "return bit.tohex(255) .. bit.tohex(255, -4) .. bit.tohex(bit.bswap(1))",
            "$20~000000ff00FF01000000~",
        ),
        (
            "local b = bit.band return {pcall(b, 'x')}",
            "*2~$-1~$52~bad argument #1 to '?' (number expected, got string)~",
        ),
        (
            "local t = {} for n = 1, 300 do t[n] = n end return #{pcall(unpack, t)}",
            ":301~",
        ),
        (
            "return bit.band('x')",
            "-ERR user_script:1: bad argument #1 to 'band' (number expected, got string) script: SHA, on @user_script:1.~",
        ),
        (
            "return {struct.unpack('>I2hc3', struct.pack('>I2hc3', 258, -2, 'abcd'))}",
            "*4~:258~:-2~$3~abc~:8~",
        ),
        (
            "return {struct.size('!4bi4'), struct.size('bi4'), #struct.pack('s', 'abc'), (struct.unpack('d', struct.pack('d', 2.5))) * 2}",
            "*4~:8~:5~:4~:5~",
        ),
        (
            "return struct.unpack('I4', 'ab')",
            "-ERR user_script:1: bad argument #2 to 'unpack' (data string too short) script: SHA, on @user_script:1.~",
        ),
        (
            "return struct.pack('i33', 1)",
            "-ERR user_script:1: integral size 33 is larger than limit of 32 script: SHA, on @user_script:1.~",
        ),
        (
            "return struct.pack('q', 1)",
            "-ERR user_script:1: bad argument #1 to 'pack' (invalid format option 'q') script: SHA, on @user_script:1.~",
        ),
        ("return {struct.unpack('bc0', '\\3abc')}", "*2~$3~abc~:5~"),
        (
            "math.randomseed(7) local a = math.random(1000) math.randomseed(7) return a == math.random(1000) and 1",
            ":1~",
        ),
        (
            "return tostring(0.1 + 0.2) .. ' ' .. 1e15 .. ' ' .. 3",
            "$11~0.3 1e+15 3~",
        ),
    ]);
}

#[test]
fn a_script_that_does_not_end_is_stopped_and_the_next_one_runs() {
    let mut bench = Bench::new();
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(pcall, function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do pcall(function() while true do end end) end end) co()",
        "local function f() pcall(f) f() end f()",
        "while true do redis.pcall('ping') end",
    ] {
        bench.looks.set(20);
        let (out, outcome) = bench.eval(body, Resp::V2);
        assert_eq!(outcome, Outcome::Killed, "{body}");
        assert!(out.starts_with("-ERR killed script: "), "{out}");
        bench.looks.set(20);
        bench.abandons.set(true);
        let abandoned = (String::new(), Outcome::Abandoned);
        assert_eq!(bench.eval(body, Resp::V2), abandoned, "{body}");
        bench.abandons.set(false);
        bench.looks.set(u64::MAX);
        assert_eq!(bench.reply("return 1", Resp::V2), ":1~");
    }
    for body in [
        "redis.call('away') return 1",
        "pcall(redis.call, 'away') return 1",
        "while true do redis.pcall('away') end",
    ] {
        bench.host.calls = 0;
        assert_eq!(
            bench.eval(body, Resp::V2),
            (String::new(), Outcome::Abandoned)
        );
        assert_eq!(bench.host.calls, 1, "{body}");
        assert_eq!(bench.reply("return 1", Resp::V2), ":1~");
    }
}

#[test]
fn libraries_register_functions() {
    let mut bench = Bench::new();
    let mut load = |code: &str| {
        let loaded = bench.engine.load(code.as_bytes(), &mut bench.host);
        loaded.map(|library| {
            library
                .functions
                .iter()
                .map(|f| f.name.clone())
                .collect::<Vec<_>>()
        })
    };
    let error = |text: &str| Err(text.to_owned());
    let code = "#!lua name=lib\nlocal n = 0\nredis.register_function('f', function(keys, args) n = n + 1 return {keys[1], args[1], n, redis.call('ping')} end)\nredis.register_function{function_name='g', callback=function() return redis.call('fail') end, flags={'no-writes'}, description='d'}";
    assert_eq!(load(code), Ok(vec!["f".to_owned(), "g".to_owned()]));
    assert_eq!(
        load("#!lua name=e\nlocal x = 1"),
        error("No functions registered")
    );
    assert_eq!(
        load("#!lua name=e\nreturn 1 +"),
        error("Error compiling function: user_function:2: unexpected symbol near '<eof>'")
    );
    assert_eq!(
        load("#!lua name=e\nredis.call('ping')"),
        error(
            "Error registering functions: ERR user_function:2: Script attempted to access nonexistent global variable 'call'"
        )
    );
    assert_eq!(
        load("#!lua name=e\nmath.random()"),
        error(
            "Error registering functions: ERR user_function:2: Script attempted to access nonexistent global variable 'math'"
        )
    );
    assert_eq!(
        load("#!lua name=e\nredis.register_function('a b', function() end)"),
        error(
            "Error registering functions: ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
        )
    );
    assert_eq!(
        load("#!lua name=e\nredis.register_function('a')"),
        error(
            "Error registering functions: ERR calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments)."
        )
    );
    assert_eq!(
        load("#!lua name=e\nx = 1"),
        error(
            "Error registering functions: ERR user_function:2: Attempt to modify a readonly table"
        )
    );
    let mut call = |name: &str| {
        let mut out = Vec::new();
        let run = Run::Function {
            library: "lib",
            name,
        };
        let words: [&[u8]; 1] = [b"w"];
        let outcome = bench
            .engine
            .run(run, &mut bench.host, (&words, &words), Resp::V2, &mut out);
        (
            String::from_utf8(out).unwrap().replace("\r\n", "~"),
            outcome,
        )
    };
    assert_eq!(call("f").0, "*4~$1~w~$1~w~:1~+PONG~");
    assert_eq!(call("f").0, "*4~$1~w~$1~w~:2~+PONG~");
    assert_eq!(
        call("g").0,
        "-WRONGTYPE not so script: g, on @user_function:4.~"
    );
    // A library that others have loaded comes with `sync`, and one that is gone goes.
    let library = bench.engine.load(code.as_bytes(), &mut bench.host).unwrap();
    let mut libraries = Libraries::default();
    libraries.add(&[library], false).unwrap();
    let mut other = Bench::new();
    other.engine.sync(&libraries, &mut other.host);
    let mut out = Vec::new();
    let run = Run::Function {
        library: "lib",
        name: "f",
    };
    other
        .engine
        .run(run, &mut other.host, (&[], &[]), Resp::V2, &mut out);
    assert_eq!(out, b"*0\r\n");
    other.engine.sync(&Libraries::default(), &mut other.host);
    out.clear();
    let outcome = other
        .engine
        .run(run, &mut other.host, (&[], &[]), Resp::V2, &mut out);
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
}

#[test]
fn what_is_logged_reaches_the_host() {
    let mut bench = Bench::new();
    bench.eval("redis.log(redis.LOG_WARNING, 'a', 1, 2.5)", Resp::V2);
    assert_eq!(bench.host.logged, [(3, "a 1 2.5".to_owned())]);
}

/// The watchdog is asked after so many instructions; one call of the library may take as long as thousands of them.
#[test]
fn long_calls_are_watched_one_by_one() {
    for call in [
        "s:upper()",
        "s:find('b')",
        "string.rep(s, 2)",
        "table.concat(t)",
        "table.sort(t)",
        "cjson.encode(t)",
        "redis.sha1hex(s)",
    ] {
        let mut bench = Bench::new();
        bench.looks.set(20);
        let script = format!(
            "local s, t, n = string.rep('a', 70000), {{'b', 'a'}}, 0
             while n < 100 do n = n + 1; pcall(function() {call} end) end
             return n"
        );
        let (text, outcome) = bench.eval(&script, Resp::V2);
        assert_eq!(outcome, Outcome::Killed, "{call}: {text}");
    }
}

/// As in Redis, whose tests try these.
#[test]
fn globals_are_protected_and_calls_may_be_wide() {
    check(&[
        (
            "getmetatable(_G).__index = {}",
            "-ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.~",
        ),
        ("return tostring(redis.register_function)", "$3~nil~"),
        (
            "local t = {} for i = 1, 7999 do t[i] = 'x' end
             return redis.pcall('ping', unpack(t))['ok']",
            "$4~PONG~",
        ),
    ]);
}
