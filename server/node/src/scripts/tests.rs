//! Scripts on one core and on several: declared keys, other keys, what is undone, who may stop what.

use crate::testing::{Bench, Client};

/// Words of a request, sent; the reply with `~` for line ends.
fn call(bench: &mut Bench, client: Client, words: &[&str]) -> String {
    let mut request = Vec::new();
    protocol::request::encode(words, &mut request);
    bench.send(client, &request);
    let reply = bench.received(client);
    String::from_utf8_lossy(&reply).replace("\r\n", "~")
}

fn eval(bench: &mut Bench, client: Client, body: &str, keys: &[&str]) -> String {
    let count = keys.len().to_string();
    let mut words = vec!["EVAL", body, &count];
    words.extend_from_slice(keys);
    call(bench, client, &words)
}

#[test]
fn scripts_run_by_text_and_by_digest_from_every_core() {
    for cores in 1..=3 {
        let mut bench = Bench::new(cores);
        let clients: Vec<_> = (0..cores).map(|core| bench.connect(core)).collect();
        let body = "redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])";
        let sha = String::from_utf8(script::sha1_hex(body.as_bytes()).to_vec()).unwrap();
        let first = clients[0];
        assert!(
            call(&mut bench, first, &["EVALSHA", &sha, "1", "k", "v"]).starts_with("-NOSCRIPT")
        );
        assert_eq!(
            call(&mut bench, first, &["SCRIPT", "LOAD", body]),
            format!("$40~{sha}~")
        );
        for n in 0..30 {
            let client = clients[n % cores];
            let key = format!("key:{n}");
            let upper = sha.to_uppercase();
            let reply = call(&mut bench, client, &["EVALSHA", &upper, "1", &key, "v"]);
            assert_eq!(reply, "$1~v~");
        }
        assert_eq!(call(&mut bench, first, &["DBSIZE"]), ":30~");
        assert_eq!(
            call(&mut bench, first, &["SCRIPT", "EXISTS", &sha, "x"]),
            "*2~:1~:0~"
        );
        assert_eq!(call(&mut bench, first, &["SCRIPT", "FLUSH"]), "+OK~");
        // Whatever each core has compiled, and whoever brought it: a flush is a flush.
        for client in &clients {
            call(&mut bench, *client, &["SCRIPT", "LOAD", body]);
        }
        assert_eq!(
            call(&mut bench, first, &["SCRIPT", "FLUSH", "SYNC"]),
            "+OK~"
        );
        for client in &clients {
            let reply = call(&mut bench, *client, &["EVALSHA", &sha, "1", "k", "v"]);
            assert_eq!(reply, "-NOSCRIPT No matching script. Please use EVAL.~");
        }
    }
}

#[test]
fn keys_that_were_not_declared_work_on_every_core() {
    for cores in 1..=3 {
        let mut bench = Bench::new(cores);
        let client = bench.connect(0);
        // It writes to a key of its own before it meets the others, and adds up: each run counts once.
        let body = "redis.call('incr', 'runs') for n = 1, 20 do redis.call('rpush', 'list:' .. n, n) end
            return {redis.call('get', 'runs'), redis.call('dbsize'), redis.call('exists', 'list:1', 'list:20')}";
        assert_eq!(eval(&mut bench, client, body, &[]), "*3~$1~1~:21~:2~");
        assert_eq!(eval(&mut bench, client, body, &["runs"]), "*3~$1~2~:21~:2~");
        assert_eq!(call(&mut bench, client, &["LLEN", "list:7"]), ":2~");
        // In a pipeline, in order.
        let mut pipeline = Vec::new();
        for n in 0..20 {
            let (key, n) = (format!("p:{n}"), n.to_string());
            protocol::request::encode(&["SET", &key, &n], &mut pipeline);
            let sum = format!(
                "local s = 0 for n = 0, {n} do s = s + redis.call('get', 'p:' .. n) end return s"
            );
            protocol::request::encode(&["EVAL", &sum, "0"], &mut pipeline);
            protocol::request::encode(&["GET", &key], &mut pipeline);
        }
        bench.send(client, &pipeline);
        let expected: String = (0..20)
            .map(|n| {
                format!(
                    "+OK\r\n:{}\r\n${}\r\n{n}\r\n",
                    n * (n + 1) / 2,
                    n.to_string().len()
                )
            })
            .collect();
        assert_eq!(String::from_utf8(bench.received(client)).unwrap(), expected);
        // In a transaction, and with keys on another core.
        bench.send(client, b"MULTI\r\nSET x 1\r\nEVAL \"return redis.call('incr', 'x') + redis.call('incrby', 'y', 5)\" 0\r\nEXEC\r\n");
        let reply = String::from_utf8(bench.received(client)).unwrap();
        assert!(reply.ends_with("*2\r\n+OK\r\n:7\r\n"), "{reply}");
        assert_eq!(
            call(
                &mut bench,
                client,
                &["EVAL", "return redis.call('keys', '*')[1] and 1", "0"]
            ),
            ":1~"
        );
        assert_eq!(
            call(
                &mut bench,
                client,
                &[
                    "EVAL",
                    "redis.call('flushall') return redis.call('dbsize')",
                    "0"
                ]
            ),
            ":0~"
        );
    }
}

#[test]
fn a_stopped_script_leaves_no_trace() {
    for cores in [1, 2] {
        let mut bench = Bench::with(cores, |config| config.script_kill_after_ms = 30);
        let client = bench.connect(0);
        for n in 0..500 {
            call(&mut bench, client, &["RPUSH", "large", &n.to_string()]);
        }
        call(&mut bench, client, &["SET", "k", "old", "EX", "1000"]);
        call(&mut bench, client, &["WATCH", "k"]);
        let digest = call(&mut bench, client, &["DEBUG", "DIGEST"]);
        let body = "redis.call('set', 'k', 'new') redis.call('rename', 'large', 'other') redis.call('lpush', 'other', 'x')
            redis.call('del', 'other') redis.call('hset', 'h', 'f', 'v')
            while true do pcall(function() while true do redis.call('incr', 'n') end end) end";
        let reply = eval(&mut bench, client, body, &["k"]);
        let text = "-ERR Script killed: it has run for longer than script-kill-after-ms script: ";
        assert!(reply.starts_with(text), "{reply}");
        assert_eq!(call(&mut bench, client, &["DEBUG", "DIGEST"]), digest);
        assert_eq!(call(&mut bench, client, &["TTL", "k"]), ":1000~");
        // To those who watch it has not happened.
        bench.send(client, b"MULTI\r\nPING\r\nEXEC\r\n");
        assert!(bench.received(client).ends_with(b"*1\r\n+PONG\r\n"));
        // An error of its own undoes nothing.
        let reply = eval(
            &mut bench,
            client,
            "redis.call('set', 'k', 'kept') error('x')",
            &["k"],
        );
        assert!(reply.starts_with("-ERR user_script:1: x script: "));
        assert_eq!(call(&mut bench, client, &["GET", "k"]), "$4~kept~");
    }
}

#[test]
fn what_scripts_may_call_and_what_they_are_told() {
    let mut bench = Bench::new(2);
    let client = bench.connect(0);
    for (body, reply) in [
        (
            "return redis.pcall('nosuch')",
            "-ERR Unknown Redis command called from script~",
        ),
        (
            "return redis.pcall('get')",
            "-ERR Wrong number of args calling Redis command from script~",
        ),
        (
            "return redis.pcall('multi')",
            "-ERR This Redis command is not allowed from script~",
        ),
        (
            "return redis.pcall('eval', '1', 0)",
            "-ERR This Redis command is not allowed from script~",
        ),
        (
            "return redis.pcall('config', 'get', 'x')",
            "-ERR This Redis command is not allowed from script~",
        ),
        (
            "return redis.pcall('object', 'nosuch')",
            "-ERR Unknown Redis command called from script~",
        ),
        (
            "redis.call('set', 'l', 'x') return redis.pcall('lpush', 'l', 1)",
            "-WRONGTYPE Operation against a key holding the wrong kind of value~",
        ),
        (
            "redis.call('select', 3) redis.call('set', 'three', 1) return redis.call('dbsize')",
            ":1~",
        ),
        ("return redis.call('dbsize')", ":1~"),
        ("return redis.call('ping')", "+PONG~"),
        (
            "redis.setresp(3) return redis.call('hgetall', 'none').map and 'map'",
            "$3~map~",
        ),
        ("return redis.call('object', 'encoding', 'l')", "$6~embstr~"),
        (
            "return {redis.call('time')[1] + 0 > 1600000000, type(redis.call('info'))}",
            "*2~:1~$6~string~",
        ),
    ] {
        assert_eq!(eval(&mut bench, client, body, &[]), reply, "{body}");
    }
    for (words, reply) in [
        (
            &["EVAL", "return 1", "x"][..],
            "-ERR value is not an integer or out of range~",
        ),
        (
            &["EVAL", "return 1", "2", "a"],
            "-ERR Number of keys can't be greater than number of args~",
        ),
        (
            &["EVAL", "return 1", "-1"],
            "-ERR Number of keys can't be negative~",
        ),
        (
            &["EVAL", "return 1 +", "0"],
            "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'~",
        ),
        (
            &["EVAL", "#!lua flags=x\nreturn 1", "0"],
            "-ERR Unexpected flag in script shebang: x~",
        ),
        (
            &["EVAL_RO", "return redis.pcall('set', KEYS[1], 1)", "1", "k"],
            "-ERR Write commands are not allowed from read-only scripts.~",
        ),
        (
            &["EVAL_RO", "#!lua\nreturn 1", "0"],
            "-ERR Can not execute a script with write flag using *_ro command.~",
        ),
        (&["EVAL_RO", "#!lua flags=no-writes\nreturn 1", "0"], ":1~"),
        (
            &[
                "EVAL",
                "#!lua flags=no-writes\nreturn redis.pcall('set', 'k', 1)",
                "0",
            ],
            "-ERR Write commands are not allowed from read-only scripts.~",
        ),
        (
            &["SCRIPT", "KILL"],
            "-NOTBUSY No scripts in execution right now.~",
        ),
        (
            &["SCRIPT", "FLUSH", "x"],
            "-ERR SCRIPT FLUSH only support SYNC|ASYNC option~",
        ),
        (
            &["SCRIPT", "DEBUG", "YES"],
            "-ERR SCRIPT DEBUG is not supported: there is no debugger here~",
        ),
        (&["FCALL", "none", "0"], "-ERR Function not found~"),
    ] {
        assert_eq!(call(&mut bench, client, words), reply, "{words:?}");
    }
}

#[test]
fn libraries_are_known_on_every_core() {
    let mut bench = Bench::new(2);
    let clients = [bench.connect(0), bench.connect(1)];
    let code = "#!lua name=lib\nlocal n = 0\nredis.register_function('count', function(keys, args) n = n + 1 redis.call('set', keys[1], n) return n end)\nredis.register_function{function_name='ro', callback=function() return 1 end, flags={'no-writes'}, description='reads'}";
    let first = clients[0];
    assert_eq!(
        call(&mut bench, first, &["FUNCTION", "LOAD", code]),
        "$3~lib~"
    );
    assert_eq!(
        call(&mut bench, first, &["FUNCTION", "LOAD", code]),
        "-ERR Library 'lib' already exists~"
    );
    assert_eq!(
        call(&mut bench, first, &["FUNCTION", "LOAD", "REPLACE", code]),
        "$3~lib~"
    );
    for client in clients {
        assert_eq!(
            call(&mut bench, client, &["FCALL", "count", "1", "k"]),
            ":1~"
        );
        assert_eq!(
            call(&mut bench, client, &["FCALL", "COUNT", "1", "other"]),
            ":2~"
        );
        assert_eq!(call(&mut bench, client, &["FCALL_RO", "ro", "0"]), ":1~");
        let refused = "-ERR Can not execute a script with write flag using *_ro command.~";
        assert_eq!(
            call(&mut bench, client, &["FCALL_RO", "count", "1", "k"]),
            refused
        );
        assert_eq!(
            call(&mut bench, client, &["FCALL", "ro", "x"]),
            "-ERR Bad number of keys provided~"
        );
    }
    let listed = call(
        &mut bench,
        first,
        &["FUNCTION", "LIST", "LIBRARYNAME", "l*"],
    );
    assert_eq!(
        listed,
        "*1~*6~$12~library_name~$3~lib~$6~engine~$3~LUA~$9~functions~*2~*6~$4~name~$5~count~$11~description~$-1~$5~flags~*0~*6~$4~name~$2~ro~$11~description~$5~reads~$5~flags~*1~+no-writes~"
    );
    assert_eq!(
        call(&mut bench, first, &["FUNCTION", "LIST", "LIBRARYNAME", "x"]),
        "*0~"
    );
    let stats = call(&mut bench, first, &["FUNCTION", "STATS"]);
    assert_eq!(
        stats,
        "*4~$14~running_script~$-1~$7~engines~*2~$3~LUA~*4~$15~libraries_count~:1~$15~functions_count~:2~"
    );
    // Dumped, deleted, restored.
    let mut request = Vec::new();
    protocol::request::encode(&["FUNCTION", "DUMP"], &mut request);
    bench.send(first, &request);
    let dumped = bench.received(first);
    let start = dumped.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let payload = dumped[start..dumped.len() - 2].to_vec();
    assert_eq!(
        call(&mut bench, first, &["FUNCTION", "DELETE", "lib"]),
        "+OK~"
    );
    assert_eq!(
        call(&mut bench, first, &["FUNCTION", "DELETE", "lib"]),
        "-ERR Library not found~"
    );
    assert_eq!(
        call(&mut bench, clients[1], &["FCALL", "ro", "0"]),
        "-ERR Function not found~"
    );
    let mut restore = |policy: &[u8]| {
        let words: [&[u8]; 4] = [b"FUNCTION", b"RESTORE", &payload, policy];
        let mut request = Vec::new();
        protocol::request::encode(&words, &mut request);
        bench.send(clients[1], &request);
        String::from_utf8(bench.received(clients[1])).unwrap()
    };
    assert_eq!(restore(b"APPEND"), "+OK\r\n");
    assert_eq!(restore(b"APPEND"), "-ERR Library lib already exists\r\n");
    assert_eq!(restore(b"REPLACE"), "+OK\r\n");
    assert_eq!(restore(b"FLUSH"), "+OK\r\n");
    assert!(restore(b"x").starts_with("-ERR Wrong restore policy given"));
    assert_eq!(call(&mut bench, first, &["FCALL", "ro", "0"]), ":1~");
    assert_eq!(
        call(&mut bench, first, &["FUNCTION", "RESTORE", "abc"]),
        "-ERR DUMP payload version or checksum are wrong~"
    );
    assert_eq!(call(&mut bench, first, &["FUNCTION", "FLUSH"]), "+OK~");
    assert_eq!(
        call(&mut bench, clients[1], &["FCALL", "ro", "0"]),
        "-ERR Function not found~"
    );
}

#[test]
fn in_cluster_mode_scripts_keep_to_their_slots() {
    let mut bench = Bench::with(2, |config| config.cluster_enabled = true);
    let own = bench.connect_own(0);
    let here = |bench: &mut Bench, core: usize| {
        (0..)
            .map(|n| format!("k{n}"))
            .find(|key| bench.owner_of(key.as_bytes()) == core)
            .unwrap_or_default()
    };
    let (mine, others) = (here(&mut bench, 0), here(&mut bench, 1));
    let get = "return redis.pcall('get', ARGV[1])";
    let asks = |bench: &mut Bench, body: &str, key: &str| {
        call(bench, own, &["EVAL", body, "1", &mine, key])
    };
    assert_eq!(asks(&mut bench, get, &mine), "$-1~");
    assert_eq!(
        asks(&mut bench, get, &others),
        "-ERR Script attempted to access a non local key in a cluster node~"
    );
    let declared = format!("#!lua\n{get}");
    let second = format!("{mine}x");
    if bench.owner_of(second.as_bytes()) == 0 {
        assert_eq!(
            asks(&mut bench, &declared, &second),
            "-ERR Script attempted to access keys that do not hash to the same slot~"
        );
    }
    assert_eq!(
        call(&mut bench, own, &["EVAL", get, "2", &mine, &others, "x"]),
        "-CROSSSLOT Keys in request don't hash to the same slot~"
    );
    let flagged = "#!lua flags=no-cluster\nreturn 1";
    assert_eq!(
        call(&mut bench, own, &["EVAL", flagged, "0"]),
        "-ERR Can not run script on cluster, 'no-cluster' flag is set.~"
    );
}

#[test]
fn a_script_that_only_reads_is_not_paused_with_writes() {
    for cores in [1, 2] {
        let mut bench = Bench::new(cores);
        let (actor, client) = (bench.connect(0), bench.connect(cores - 1));
        let eval = |code: &str| {
            let mut request = Vec::new();
            protocol::request::encode(&["EVAL", code, "0"], &mut request);
            request
        };
        let (reads, writes) = (eval("#!lua flags=no-writes\nreturn 1"), eval("return 2"));
        bench.call(actor, "CLIENT PAUSE 60000 WRITE");
        bench.send(client, &reads);
        assert_eq!(bench.received(client), b":1\r\n");
        bench.call(client, "MULTI");
        bench.send(client, &reads);
        assert_eq!(bench.received(client), b"+QUEUED\r\n");
        assert_eq!(bench.call(client, "EXEC"), "*1\r\n:1\r\n");
        bench.send(client, &writes);
        assert_eq!(bench.received(client), b"");
        bench.call(actor, "CLIENT UNPAUSE");
        assert_eq!(bench.received(client), b":2\r\n");
        bench.call(client, "MULTI");
        bench.send(client, &writes);
        assert_eq!(bench.received(client), b"+QUEUED\r\n");
        bench.call(actor, "CLIENT PAUSE 60000 WRITE");
        assert_eq!(bench.call(client, "EXEC"), "");
        bench.call(actor, "CLIENT UNPAUSE");
        assert_eq!(bench.received(client), b"*1\r\n:2\r\n");
    }
}
