//! The front on a bench: no thread, so nothing reaches a source; holding and letting go, step by step.

use migration::Authority;

use super::{hold, in_flight, release};
use crate::testing::Bench;

fn exec(bench: &mut Bench, client: crate::testing::Client) -> String {
    bench.send(client, b"MULTI\r\nSET k 1\r\nEXEC\r\n");
    String::from_utf8_lossy(&bench.received(client)).into_owned()
}

#[test]
fn requests_of_this_node_are_held_and_let_go() {
    for cores in 1..=3 {
        let mut bench = Bench::new(cores);
        let node = bench.node();
        let clients: Vec<_> = (0..cores).map(|core| bench.connect(core)).collect();
        let (waits, watches) = (bench.connect(0), bench.connect(cores - 1));
        assert_eq!(bench.call(waits, "BLPOP q w 10"), "");
        for (n, client) in clients.iter().enumerate() {
            assert_eq!(bench.call(*client, &format!("SET k{n} v")), "+OK\r\n");
        }
        assert_eq!(bench.call(watches, "WATCH k0 k1 k2"), "+OK\r\n");
        hold(node);
        assert!(in_flight(node) > 0, "no core knows of it");
        bench.tell_authority();
        assert_eq!(in_flight(node), 0);
        for client in &clients {
            bench.send(*client, b"SET a 1\r\nGET a\r\nPING\r\n");
            assert_eq!(bench.received(*client), b"", "they wait");
        }
        assert_eq!(bench.call(watches, "PING"), "+PONG\r\n");
        assert_eq!(in_flight(node), 0, "what waits is not under way");
        bench.advance(4000);
        release(node, Authority::Own);
        bench.tell_authority();
        for client in &clients {
            let replies = bench.received(*client);
            assert_eq!(replies, b"+OK\r\n$1\r\n1\r\n+PONG\r\n");
        }
        assert!(
            exec(&mut bench, watches).ends_with("*-1\r\n"),
            "it cannot be known"
        );
        assert!(exec(&mut bench, watches).ends_with("*1\r\n+OK\r\n"));
        // It waits again, as long as it would have.
        bench.advance(5900);
        assert_eq!(bench.received(waits), b"");
        assert_eq!(bench.call(clients[0], "RPUSH w v"), ":1\r\n");
        assert_eq!(bench.received(waits), b"*2\r\n$1\r\nw\r\n$1\r\nv\r\n");
        bench.check();
    }
}

#[test]
fn who_waits_too_long_or_goes_is_not_let_go() {
    let mut bench = Bench::new(2);
    let node = bench.node();
    let (late, gone, ended) = (bench.connect(0), bench.connect(1), bench.connect(1));
    for client in [late, gone, ended] {
        assert_eq!(bench.call(client, "BLMOVE q r LEFT LEFT 3"), "");
    }
    let id = bench.call(late, "CLIENT ID");
    assert_eq!(id, "", "it is behind the wait");
    hold(node);
    bench.tell_authority();
    assert_eq!(in_flight(node), 0);
    bench.close(gone);
    let other = bench.connect(0);
    assert_eq!(bench.call(other, "CLIENT UNBLOCK 3 ERROR"), ":1\r\n");
    assert!(bench.received(ended).starts_with(b"-UNBLOCKED"));
    bench.advance(3100);
    release(node, Authority::Own);
    bench.tell_authority();
    assert_eq!(bench.received(late), b"*-1\r\n:1\r\n");
    assert_eq!(bench.call(other, "RPUSH q v"), ":1\r\n");
    assert_eq!(bench.call(other, "LLEN q"), ":1\r\n");
    let info = bench.call(other, "INFO clients");
    assert!(info.contains("blocked_clients:0\r\n"), "{info}");
}

#[test]
fn without_a_way_to_the_source_nothing_is_executed() {
    for cores in 1..=2 {
        let mut bench = Bench::new(cores);
        let node = bench.node();
        let client = bench.connect(0);
        assert_eq!(bench.call(client, "SET k v"), "+OK\r\n");
        release(node, Authority::Front);
        bench.tell_authority();
        node.source.set_applied(5);
        let early = bench.connect(0);
        let refused = bench.call(early, "GET k");
        assert!(
            refused.starts_with("-MASTERDOWN"),
            "{refused}: nobody knows how far the source is"
        );
        node.front.saw(0, 5);
        assert_eq!(
            bench.call(client, "GET k"),
            "$1\r\nv\r\n",
            "a read is answered here"
        );
        bench.send(client, b"INCR k\r\nPING\r\nDEL k\r\n");
        let replies = bench.received(client);
        let text = String::from_utf8_lossy(&replies);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("-MASTERDOWN") && lines[2].starts_with("-MASTERDOWN"));
        assert_eq!(lines[1], "+PONG");
        // What became of it is not known by an offset: reads are the source's from now on.
        assert!(bench.call(client, "GET k").starts_with("-MASTERDOWN"));
        let other = bench.connect(0);
        assert_eq!(bench.call(other, "GET k"), "$1\r\nv\r\n");
        assert_eq!(in_flight(node), 0);
        release(node, Authority::Own);
        bench.tell_authority();
        assert_eq!(bench.call(client, "DEL k"), ":1\r\n");
        let info = bench.call(client, "INFO migration");
        assert!(
            info.contains("authority:own\r\n") && info.contains("front_passed_on:4\r\n"),
            "{info}"
        );
    }
}
