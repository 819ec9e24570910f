//! Clients that wait, on nodes of one to three cores.

use storage::{Key, StreamId};

use crate::testing::{Bench, Client};

/// For nodes of one to three cores: waiters on every core, and a client that acts.
fn everywhere(test: impl Fn(&mut Bench, &[Client], Client)) {
    for cores in 1..=3 {
        let mut bench = Bench::new(cores);
        let waiters: Vec<Client> = (0..6).map(|n| bench.connect(n % cores)).collect();
        let actor = bench.connect(cores - 1);
        test(&mut bench, &waiters, actor);
    }
}

fn text(bench: &mut Bench, client: Client) -> String {
    String::from_utf8_lossy(&bench.received(client)).replace("\r\n", " ")
}

#[test]
fn first_come_first_served() {
    everywhere(|bench, waiters, actor| {
        for (n, waiter) in waiters.iter().enumerate() {
            let request = ["BLPOP a b 0", "BRPOP b 0", "BLMPOP 0 2 a b LEFT"][n % 3];
            assert_eq!(bench.call(*waiter, request), "");
        }
        assert_eq!(bench.call(actor, "RPUSH b 1 2 3 4"), ":4\r\n");
        assert_eq!(text(bench, waiters[0]), "*2 $1 b $1 1 ");
        assert_eq!(text(bench, waiters[1]), "*2 $1 b $1 4 ");
        assert_eq!(text(bench, waiters[2]), "*2 $1 b *1 $1 2 ");
        assert_eq!(text(bench, waiters[3]), "*2 $1 b $1 3 ");
        assert_eq!(text(bench, waiters[4]), "");
        assert_eq!(bench.call(actor, "EXISTS b"), ":0\r\n");
        assert_eq!(bench.call(actor, "RPUSH a x"), ":1\r\n");
        assert_eq!(text(bench, waiters[5]), "*2 $1 a *1 $1 x ");
        let info = bench.call(actor, "INFO clients");
        assert!(info.contains("blocked_clients:1\r\n"), "{info}");
    });
}

#[test]
fn nobody_is_served_while_data_is_read() {
    everywhere(|bench, waiters, actor| {
        let add = |bench: &mut Bench, ms| {
            let shard = bench.shard_of(b"s");
            let mut edit = shard.edit();
            let mut stream = edit.edit_stream_or_new(&Key::new(0, b"s")).unwrap();
            stream.add(StreamId::new(ms, 0), [&b"f"[..], b"v"].into_iter());
        };
        assert_eq!(bench.call(waiters[0], "XREAD BLOCK 0 STREAMS s $"), "");
        bench.node().loading.begin(1);
        bench.tell_authority();
        add(bench, 1);
        bench.advance(1);
        assert!(bench.call(actor, "GET a").starts_with("-LOADING"));
        assert_eq!(text(bench, waiters[0]), "");
        // The copy fails, and what has come goes again.
        bench.shard_of(b"s").edit().flush_all();
        bench.node().loading.end();
        bench.tell_authority();
        bench.advance(1);
        assert_eq!(text(bench, waiters[0]), "");
        // The next one ends well.
        bench.node().loading.begin(1);
        bench.tell_authority();
        add(bench, 2);
        bench.advance(1);
        assert_eq!(text(bench, waiters[0]), "");
        bench.node().loading.end();
        bench.tell_authority();
        bench.advance(1);
        assert!(text(bench, waiters[0]).contains(" 2-0 "));
        assert_eq!(bench.call(waiters[0], "PING"), "+PONG\r\n");
    });
}

#[test]
fn timeouts_end_waits_in_time() {
    everywhere(|bench, waiters, actor| {
        assert_eq!(bench.call(waiters[0], "BLPOP a b 0.05"), "");
        assert_eq!(bench.call(waiters[1], "BLMOVE a b LEFT LEFT 0.1"), "");
        assert_eq!(bench.call(waiters[2], "WAIT 1 20"), "");
        assert_eq!(bench.call(waiters[3], "WAITAOF 0 1 20"), "");
        assert_eq!(bench.call(waiters[4], "WAIT 0 0"), ":0\r\n");
        bench.advance(49);
        assert_eq!(text(bench, waiters[2]), ":0 ");
        assert_eq!(text(bench, waiters[3]), "*2 :0 :0 ");
        assert_eq!(text(bench, waiters[0]), "");
        bench.advance(1);
        assert_eq!(text(bench, waiters[0]), "*-1 ");
        bench.advance(50);
        assert_eq!(text(bench, waiters[1]), "*-1 ");
        // Nobody waits: what comes stays.
        assert_eq!(bench.call(actor, "RPUSH a 1"), ":1\r\n");
        assert_eq!(bench.call(actor, "LLEN a"), ":1\r\n");
        assert_eq!(bench.call(waiters[0], "PING"), "+PONG\r\n");
    });
}

#[test]
fn a_moved_element_serves_who_waits_for_it() {
    everywhere(|bench, waiters, actor| {
        assert_eq!(bench.call(waiters[0], "BLMOVE a b LEFT LEFT 0"), "");
        assert_eq!(bench.call(waiters[1], "BLMOVE b c LEFT LEFT 0"), "");
        assert_eq!(bench.call(waiters[2], "BLPOP c 0"), "");
        assert_eq!(bench.call(actor, "RPUSH a x"), ":1\r\n");
        assert_eq!(text(bench, waiters[0]), "$1 x ");
        assert_eq!(text(bench, waiters[1]), "$1 x ");
        assert_eq!(text(bench, waiters[2]), "*2 $1 c $1 x ");
        assert_eq!(bench.call(actor, "EXISTS a b c"), ":0\r\n");
    });
}

#[test]
fn new_entries_of_streams_are_waited_for() {
    everywhere(|bench, waiters, actor| {
        let read = "XREADGROUP GROUP g c BLOCK 0 STREAMS s >";
        bench.call(actor, "XADD s 1 f v");
        bench.call(actor, "XGROUP CREATE s g $");
        assert_eq!(bench.call(waiters[0], "XREAD BLOCK 0 STREAMS t s $ $"), "");
        assert_eq!(bench.call(waiters[1], read), "");
        assert_eq!(bench.call(waiters[2], read), "");
        assert_eq!(bench.call(actor, "XADD s 2 f w"), "$3\r\n2-0\r\n");
        let entry = "*1 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 w ";
        assert_eq!(text(bench, waiters[0]), entry);
        assert_eq!(text(bench, waiters[1]), entry);
        assert_eq!(text(bench, waiters[2]), "");
        assert_eq!(bench.call(actor, "DEL s"), ":1\r\n");
        let no_group =
            "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option ";
        assert_eq!(text(bench, waiters[2]), no_group);
        assert_eq!(bench.call(waiters[3], "XREAD BLOCK 20 STREAMS s $"), "");
        bench.advance(20);
        assert_eq!(text(bench, waiters[3]), "*-1 ");
    });
}

#[test]
fn a_transaction_is_seen_whole_and_does_not_wait() {
    everywhere(|bench, waiters, actor| {
        assert_eq!(bench.call(waiters[0], "BLPOP a b 0"), "");
        bench.call(actor, "MULTI");
        for request in [
            "RPUSH b 1",
            "RPUSH a 2",
            "DEL b",
            "BLPOP none 0",
            "BLMOVE none a LEFT LEFT 0",
        ] {
            assert_eq!(bench.call(actor, request), "+QUEUED\r\n");
        }
        assert_eq!(
            bench.call(actor, "EXEC"),
            "*5\r\n:1\r\n:1\r\n:1\r\n*-1\r\n$-1\r\n"
        );
        assert_eq!(text(bench, waiters[0]), "*2 $1 a $1 2 ");
    });
}

#[test]
fn other_types_and_other_ways_to_get_a_key() {
    everywhere(|bench, waiters, actor| {
        assert_eq!(bench.call(waiters[0], "BLPOP k 0"), "");
        assert_eq!(bench.call(waiters[1], "BZPOPMIN k 0"), "");
        assert_eq!(bench.call(actor, "SET k x"), "+OK\r\n");
        assert_eq!(text(bench, waiters[0]), "");
        bench.call(actor, "ZADD z 1 m");
        assert_eq!(bench.call(actor, "RENAME z k"), "+OK\r\n");
        assert_eq!(text(bench, waiters[1]), "*3 $1 k $1 m $1 1 ");
        bench.call(actor, "RPUSH l x y");
        assert_eq!(bench.call(actor, "COPY l k"), ":1\r\n");
        assert_eq!(text(bench, waiters[0]), "*2 $1 k $1 x ");
    });
}

#[test]
fn waits_are_ended_from_outside() {
    everywhere(|bench, waiters, actor| {
        let id = |bench: &mut Bench, client| bench.call(client, "CLIENT ID").trim()[1..].to_owned();
        let ids: Vec<String> = waiters.iter().map(|w| id(bench, *w)).collect();
        for waiter in waiters {
            assert_eq!(bench.call(*waiter, "BLPOP a b 0"), "");
        }
        let unblock = |bench: &mut Bench, n: usize, how: &str| {
            bench.call(actor, format!("CLIENT UNBLOCK {}{how}", ids[n]).trim_end())
        };
        assert_eq!(unblock(bench, 0, ""), ":1\r\n");
        assert_eq!(text(bench, waiters[0]), "*-1 ");
        assert_eq!(unblock(bench, 0, ""), ":0\r\n");
        assert_eq!(unblock(bench, 1, " ERROR"), ":1\r\n");
        let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK ";
        assert_eq!(text(bench, waiters[1]), error);
        assert_eq!(
            bench.call(actor, &format!("CLIENT KILL ID {}", ids[2])),
            ":1\r\n"
        );
        assert!(bench.is_closed(waiters[2]));
        bench.close(waiters[3]);
        assert_eq!(bench.call(actor, "RPUSH b 1 2"), ":2\r\n");
        assert_eq!(text(bench, waiters[4]), "*2 $1 b $1 1 ");
        assert_eq!(text(bench, waiters[5]), "*2 $1 b $1 2 ");
    });
}

#[test]
fn what_is_pipelined_behind_a_wait_comes_after_it() {
    everywhere(|bench, waiters, actor| {
        bench.send(waiters[0], b"SET x 1\r\nBLPOP a 0\r\nGET x\r\nINCR x\r\n");
        assert_eq!(text(bench, waiters[0]), "+OK ");
        assert_eq!(bench.call(actor, "SET x 5"), "+OK\r\n");
        assert_eq!(bench.call(actor, "LPUSH a e"), ":1\r\n");
        assert_eq!(text(bench, waiters[0]), "*2 $1 a $1 e $1 5 :6 ");
    });
}

/// Found by playing against Redis: the target of BLMOVE is no list when the element comes, and the client hears of it.
#[test]
fn a_wait_may_end_with_an_error() {
    everywhere(|bench, waiters, actor| {
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value ";
        assert_eq!(bench.call(waiters[0], "BLMOVE a b LEFT LEFT 0"), "");
        assert_eq!(bench.call(actor, "SET b x"), "+OK\r\n");
        assert_eq!(bench.call(actor, "RPUSH a 1"), ":1\r\n");
        assert_eq!(text(bench, waiters[0]), wrong);
        assert_eq!(bench.call(actor, "LLEN a"), ":1\r\n");
        // The whole request runs again where its keys are together, as in Redis 7.2.
        bench.call(actor, "XADD {x}s 1 f v");
        let read = "XREAD BLOCK 0 STREAMS {x}s {x}t $ $";
        assert_eq!(bench.call(waiters[1], read), "");
        assert_eq!(bench.call(actor, "SET {x}t x"), "+OK\r\n");
        assert_eq!(text(bench, waiters[1]), "");
        bench.call(actor, "XADD {x}s 2 f v");
        assert_eq!(text(bench, waiters[1]), wrong);
    });
}

/// Who came first is served first, also if its request needs a slot of another core and the next one's does not.
#[test]
fn a_wait_over_cores_keeps_its_place() {
    everywhere(|bench, waiters, actor| {
        for target in ["b", "c", "d"] {
            let request = format!("BLMOVE a {target} LEFT LEFT 0");
            assert_eq!(bench.call(waiters[0], &request), "");
            assert_eq!(bench.call(waiters[1], "BLPOP a 0"), "");
            assert_eq!(bench.call(actor, "RPUSH a 1"), ":1\r\n");
            assert_eq!(text(bench, waiters[0]), "$1 1 ");
            assert_eq!(text(bench, waiters[1]), "");
            assert_eq!(bench.call(actor, "RPUSH a 2"), ":1\r\n");
            assert_eq!(text(bench, waiters[1]), "*2 $1 a $1 2 ");
        }
    });
}
