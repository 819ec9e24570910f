//! Replicas of a node without sockets: what they are sent, byte by byte.

use std::path::PathBuf;

use super::*;
use crate::connection::{Outbound, Queues};
use crate::stats::Call;
use crate::testing::{Bench, Client};

/// A bench whose copies lie in a folder of its own, which goes with it.
struct Served {
    bench: Bench,
    dir: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

fn served(cores: usize, name: &str) -> Served {
    let dir = std::env::temp_dir().join(format!("meridian-{name}-{cores}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let text = dir.display().to_string();
    let bench = Bench::with(cores, |config| config.dir = text);
    Served { bench, dir }
}

/// A replica's side: what it has been sent of the stream, and where that is.
struct Replica {
    client: Client,
    replid: String,
    offset: u64,
}

impl Served {
    /// A full copy, with what has been streamed behind it.
    fn follow(&mut self, core: usize) -> (Replica, Vec<u8>, Vec<u8>) {
        let client = self.bench.connect(core);
        let said = self
            .bench
            .call(client, "REPLCONF listening-port 7001 ip-address 10.0.0.9");
        assert_eq!(said, "+OK\r\n");
        assert_eq!(
            self.bench.call(client, "REPLCONF capa eof capa psync2"),
            "+OK\r\n"
        );
        self.bench.send(client, b"PSYNC ? -1\r\n");
        let got = self.bench.received(client);
        let (line, rest) = cut_line(&got);
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words[0], words.len()), ("+FULLRESYNC", 3), "{line}");
        let (len, rest) = cut_line(rest);
        let (copy, stream) = rest.split_at(len[1..].parse().unwrap());
        assert!(copy.starts_with(b"REDIS00"));
        let replica = Replica {
            client,
            replid: words[1].to_owned(),
            offset: words[2].parse().unwrap(),
        };
        let left = std::fs::read_dir(&self.dir).unwrap();
        assert_eq!(left.count(), 0, "the copy's file is gone");
        (replica, copy.to_vec(), stream.to_vec())
    }

    /// What has been streamed to a replica since it was asked last, as text.
    fn streamed(&mut self, replica: &mut Replica) -> String {
        let got = self.bench.received(replica.client);
        replica.offset += got.len() as u64;
        let text = String::from_utf8_lossy(&got).into_owned();
        let words = text
            .split("\r\n")
            .filter(|part| !part.starts_with(['*', '$']));
        words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    }

    fn acknowledge(&mut self, replica: &Replica) {
        let ack = format!("REPLCONF ACK {}", replica.offset);
        assert_eq!(self.bench.call(replica.client, &ack), "", "it has no reply");
    }

    fn info(&mut self, client: Client, name: &str) -> String {
        let info = self.bench.call(client, "INFO all");
        let name = format!("{name}:");
        let line = info.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or("none").to_owned()
    }
}

fn cut_line(bytes: &[u8]) -> (&str, &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
    (
        core::str::from_utf8(&bytes[..end]).unwrap(),
        &bytes[end + 2..],
    )
}

#[test]
fn a_replica_gets_a_copy_and_what_follows_it() {
    for cores in 1..=3 {
        let mut served = served(cores, "copy");
        let client = served.bench.connect(cores - 1);
        for n in 0..100 {
            served.bench.call(client, &format!("SET k{n} v{n}"));
        }
        assert_eq!(served.info(client, "repl_backlog_active"), "0");
        let (mut replica, copy, stream) = served.follow(0);
        let has = |text: &[u8]| copy.windows(text.len()).any(|window| window == text);
        assert!(has(b"\x03k99\x03v99") && stream.is_empty());
        served.bench.call(client, "SET a 1");
        served.bench.call(client, "SELECT 2");
        served.bench.call(client, "RPUSH l x y");
        served.bench.call(client, "MSET p 1 q 2");
        let streamed = served.streamed(&mut replica);
        assert!(streamed.starts_with("SELECT 0 SET a 1 SELECT 2 RPUSH l x y MULTI SET "));
        assert!(streamed.ends_with(" EXEC"), "{streamed}");
        // Who waits is answered when the replica says so, which it is asked for.
        assert_eq!(served.bench.call(client, "WAIT 1 0"), "");
        let asked = served.streamed(&mut replica);
        assert_eq!(asked, "REPLCONF GETACK");
        served.acknowledge(&replica);
        assert_eq!(served.bench.received(client), b":1\r\n");
        assert_eq!(served.bench.call(client, "WAIT 0 0"), ":1\r\n");
        assert_eq!(served.bench.call(client, "WAIT 2 20"), "");
        served.bench.advance(20);
        assert_eq!(served.bench.received(client), b":1\r\n");
        assert_eq!(served.bench.call(client, "WAITAOF 0 1 20"), "");
        served.streamed(&mut replica);
        let ack = format!("REPLCONF ACK {0} FACK {0}", replica.offset);
        served.bench.call(replica.client, &ack);
        assert_eq!(served.bench.received(client), b"*2\r\n:0\r\n:1\r\n");
        let line = format!(
            "ip=10.0.0.9,port=7001,state=online,offset={},lag=0",
            replica.offset
        );
        assert_eq!(served.info(client, "slave0"), line);
        let (replicas, log) = (
            &served.bench.node().replicas,
            &served.bench.node().write_log,
        );
        let id = replicas.links()[0].id;
        let all = Some((replica.replid.clone(), replica.offset));
        assert_eq!(replicas.handed_over(log, id), all);
        // Before a flip back nothing is said that is no change.
        replicas.keep_still(true);
        served.bench.advance(11_000);
        assert_eq!(served.streamed(&mut replica), "");
        replicas.keep_still(false);
        served.bench.advance(11_000);
        assert_eq!(served.streamed(&mut replica), "PING");
        assert_eq!(replicas.handed_over(log, id), None);
        served.acknowledge(&replica);
        assert!(replicas.handed_over(log, id).is_some());
        assert_eq!(
            served.info(client, "master_repl_offset"),
            replica.offset.to_string()
        );
        assert_eq!(served.info(client, "master_replid"), replica.replid);
        let role = served.bench.call(client, "ROLE");
        let ack = replica.offset.to_string();
        let expected = format!(
            "*3\r\n$6\r\nmaster\r\n:{ack}\r\n*1\r\n*3\r\n$8\r\n10.0.0.9\r\n$4\r\n7001\r\n${}\r\n{ack}\r\n",
            ack.len()
        );
        assert_eq!(role, expected);
        let list = served.bench.call(client, "CLIENT LIST TYPE replica");
        assert!(
            list.contains(" flags=S ") && list.matches("id=").count() == 1,
            "{list}"
        );
        served.bench.check();
    }
}

#[test]
fn a_replica_goes_on_where_it_was() {
    for cores in 1..=2 {
        let mut served = served(cores, "resume");
        let client = served.bench.connect(0);
        let (mut replica, ..) = served.follow(cores - 1);
        served.bench.call(client, "SET a 1");
        assert_eq!(served.streamed(&mut replica), "SELECT 0 SET a 1");
        assert_eq!(
            served.bench.call(client, "CLIENT KILL TYPE replica"),
            ":1\r\n"
        );
        assert!(served.bench.is_closed(replica.client));
        served.bench.call(client, "SET b 2");
        assert_eq!(served.info(client, "connected_slaves"), "0");
        let again = served.bench.connect(0);
        served.bench.call(again, "REPLCONF capa psync2");
        let ask = |offset: u64| format!("PSYNC {} {offset}", replica.replid.to_uppercase());
        let got = served.bench.call(again, &ask(replica.offset + 1));
        let line = format!("+CONTINUE {}\r\n", replica.replid);
        assert!(
            got.starts_with(&line) && got.ends_with("\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"),
            "{got}"
        );
        assert_eq!(served.info(client, "sync_partial_ok"), "1");
        // One that has more than there is, or another history, gets a copy.
        for asks in [ask(1_000_000), format!("PSYNC {} 1", "0".repeat(40))] {
            let other = served.bench.connect(0);
            let got = served.bench.call(other, &asks);
            assert!(got.starts_with("+FULLRESYNC "), "{got}");
        }
        assert_eq!(served.info(client, "sync_partial_err"), "2");
        assert_eq!(served.info(client, "sync_full"), "3");
        // SYNC of old has no line before the copy.
        let early = served.bench.connect(0);
        served.bench.send(early, b"SYNC\r\n");
        assert!(served.bench.received(early).starts_with(b"$"));
    }
}

#[test]
fn without_a_replica_the_feed_ends_and_so_does_the_history() {
    for cores in 1..=2 {
        let mut served = served(cores, "ends");
        let client = served.bench.connect(0);
        assert_eq!(
            served.bench.call(client, "CONFIG SET repl-backlog-ttl 5"),
            "+OK\r\n"
        );
        let (mut replica, ..) = served.follow(0);
        let log = &served.bench.node().write_log;
        assert!(log.feeds());
        // A sign of life now and then, until it has been silent for too long.
        served.bench.call(client, "SET a 1");
        assert_eq!(served.streamed(&mut replica), "SELECT 0 SET a 1");
        served.bench.advance(11_000);
        assert_eq!(served.streamed(&mut replica), "PING");
        served.bench.advance(61_000);
        served.bench.advance(1_000);
        assert!(served.bench.is_closed(replica.client));
        for _ in 0..8 {
            served.bench.advance(1_000);
        }
        assert!(!log.feeds());
        assert_eq!(served.info(client, "repl_backlog_active"), "0");
        assert_ne!(served.info(client, "master_replid"), replica.replid);
        served.bench.call(client, "SET b 2");
        let (mut other, ..) = served.follow(cores - 1);
        served.bench.call(client, "SET c 3");
        assert_eq!(served.streamed(&mut other), "SELECT 0 SET c 3");
        assert_eq!(
            served.bench.call(client, "CONFIG SET repl-backlog-ttl 0"),
            "+OK\r\n"
        );
        served.bench.close(other.client);
        served.bench.advance(100_000);
        served.bench.advance(100_000);
        assert!(log.feeds(), "never");
    }
}

#[test]
fn a_flip_waits_for_the_replica_that_it_expects() {
    for cores in 1..=2 {
        let mut served = served(cores, "flip");
        let client = served.bench.connect(0);
        let node = served.bench.node();
        let (log, replicas) = (&node.write_log, &node.replicas);
        let theirs = "a".repeat(40);
        assert_eq!(replicas.take_over(log, &theirs, 100), Err(NoFeed));
        // (What `turn_on` posts.)
        let (mut early, ..) = served.follow(0);
        assert!(log.feeds());
        served.bench.call(client, "SET before 1");
        served.streamed(&mut early);
        let asked = replicas.expect(&theirs, 100);
        let (old, stranger) = (served.bench.connect(cores - 1), served.bench.connect(0));
        served.bench.call(old, "REPLCONF capa psync2");
        assert_eq!(served.bench.call(stranger, "PSYNC ? -1"), "");
        assert!(!asked.try_recv().unwrap().is_expected);
        assert_eq!(served.bench.call(old, &format!("PSYNC {theirs} 101")), "");
        let heard = asked.try_recv().unwrap();
        assert!(heard.is_expected && heard.offset == 101 && heard.replid == theirs);
        served.bench.advance(1_100);
        assert_eq!(
            served.bench.received(old),
            b"\n",
            "it is told to be patient"
        );
        assert_eq!(served.bench.received(stranger), b"\n");
        replicas.take_over(log, &theirs, 100).unwrap();
        served.bench.advance(1);
        let history = replicas.history();
        assert_eq!(
            (history.id2.as_str(), history.second_offset),
            (theirs.as_str(), Some(101))
        );
        let line = format!("+CONTINUE {}\r\n", history.id);
        assert_eq!(served.bench.received(old), line.as_bytes());
        assert!(
            served.bench.is_closed(early.client),
            "it has another history"
        );
        assert!(served.bench.received(stranger).starts_with(b"+FULLRESYNC "));
        served.bench.call(client, "SET after 1");
        let mut old = Replica {
            client: old,
            replid: history.id.clone(),
            offset: 100,
        };
        assert_eq!(served.streamed(&mut old), "SELECT 0 SET after 1");
        assert_eq!(
            served.info(client, "master_repl_offset"),
            old.offset.to_string()
        );
        // One that did not work out: who asked is sent away, and gets no copy.
        let asked = replicas.expect(&theirs, 100);
        let late = served.bench.connect(0);
        served.bench.call(late, "PSYNC ? -1");
        assert!(!asked.try_recv().unwrap().is_expected);
        replicas.refuse(log);
        served.bench.advance(1);
        assert!(served.bench.is_closed(late) && !served.bench.is_closed(old.client));
    }
}

#[test]
fn a_log_and_replicas_are_turned_on_and_off_apart() {
    use crate::control::log::tests::MemoryDisk;
    for cores in 1..=2 {
        let mut served = served(cores, "apart");
        served.bench.may_log_to(&MemoryDisk::default());
        let client = served.bench.connect(0);
        let set = |served: &mut Served, to: &str| {
            let reply = served.bench.call(client, &format!("CONFIG SET {to}"));
            assert_eq!(reply, "+OK\r\n");
            (0..4).for_each(|_| served.bench.advance(1_000));
        };
        let client2 = served.bench.connect(cores - 1);
        served.bench.call(client2, "SET a 1");
        let (mut replica, ..) = {
            let other = served.bench.connect(0);
            served.bench.call(other, "REPLCONF capa psync2");
            served.bench.send(other, b"PSYNC ? -1\r\n");
            let got = served.bench.received(other);
            assert!(got.starts_with(b"+FULLRESYNC "));
            (
                Replica {
                    client: other,
                    replid: String::new(),
                    offset: 0,
                },
                (),
            )
        };
        set(&mut served, "appendonly yes");
        let log = &served.bench.node().write_log;
        assert!(log.is_on() && log.feeds());
        assert_eq!(served.bench.call(client2, "SET b 2"), "+OK\r\n");
        set(&mut served, "appendonly no");
        assert!(!log.is_on() && log.feeds());
        assert_eq!(served.bench.call(client2, "SET c 3"), "+OK\r\n");
        let streamed = served.streamed(&mut replica);
        assert_eq!(streamed, "SELECT 0 SET b 2 SET c 3");
        set(&mut served, "repl-backlog-ttl 1");
        served.bench.close(replica.client);
        (0..4).for_each(|_| served.bench.advance(1_000));
        assert!(!log.feeds());
        assert_eq!(served.bench.call(client2, "SET d 4"), "+OK\r\n");
        served.bench.check();
    }
}

#[test]
fn too_few_replicas_near_refuse_writes() {
    for cores in 1..=2 {
        let mut served = served(cores, "near");
        let client = served.bench.connect(cores - 1);
        let refused = "-NOREPLICAS Not enough good replicas to write.\r\n";
        assert_eq!(
            served
                .bench
                .call(client, "CONFIG SET min-replicas-to-write 1"),
            "+OK\r\n"
        );
        assert_eq!(served.bench.call(client, "SET a 1"), refused);
        assert_eq!(served.bench.call(client, "GET a"), "$-1\r\n");
        assert_eq!(served.bench.call(client, "PING"), "+PONG\r\n");
        let script = served
            .bench
            .call(client, "EVAL return(redis.call('set','a','2')) 0");
        assert!(script.starts_with("-NOREPLICAS "), "{script}");
        let (mut replica, ..) = served.follow(0);
        assert_eq!(served.info(client, "min_slaves_good_slaves"), "1");
        assert_eq!(served.bench.call(client, "SET a 1"), "+OK\r\n");
        served.streamed(&mut replica);
        // It says nothing any more.
        (0..12).for_each(|_| served.bench.advance(1_000));
        assert_eq!(served.bench.call(client, "SET a 2"), refused);
        assert_eq!(served.streamed(&mut replica), "PING");
        served.acknowledge(&replica);
        assert_eq!(served.bench.call(client, "SET a 2"), "+OK\r\n");
        assert_eq!(
            served
                .bench
                .call(client, "CONFIG SET min-replicas-to-write 0"),
            "+OK\r\n"
        );
        served.bench.close(replica.client);
        assert_eq!(served.bench.call(client, "SET a 3"), "+OK\r\n");
    }
}

#[test]
fn mistakes_are_told_as_redis_tells_them() {
    let mut served = served(2, "mistakes");
    let client = served.bench.connect(0);
    for (request, error) in [
        ("REPLCONF capa", "ERR syntax error"),
        (
            "REPLCONF listening-port x",
            "ERR value is not an integer or out of range",
        ),
        (
            "REPLCONF rdb-only 2",
            "ERR value is out of range, value must between 0 and 1",
        ),
        (
            "REPLCONF rdb-only x",
            "ERR value is not an integer or out of range",
        ),
        (
            "REPLCONF version 8.0",
            "ERR Unrecognized REPLCONF option: version",
        ),
        ("PSYNC x y", "ERR value is not an integer or out of range"),
        (
            "PSYNC x 1 FAILOVER",
            "ERR PSYNC FAILOVER can't be sent to a master.",
        ),
        (
            "PSYNC x",
            "ERR wrong number of arguments for 'psync' command",
        ),
    ] {
        let reply = served.bench.call(client, request);
        assert_eq!(reply, format!("-{error}\r\n"), "{request}");
    }
    assert_eq!(served.bench.call(client, "REPLCONF"), "+OK\r\n");
    assert_eq!(
        served.bench.call(client, "REPLCONF ack 5"),
        "",
        "nobody asked"
    );
    assert_eq!(served.bench.call(client, "PING"), "+PONG\r\n");
    assert_eq!(served.info(client, "connected_slaves"), "0");
    // A copy alone: the connection ends behind it.
    assert_eq!(served.bench.call(client, "REPLCONF rdb-only 1"), "+OK\r\n");
    served.bench.send(client, b"SYNC\r\n");
    assert!(served.bench.received(client).starts_with(b"$"));
    served.bench.advance(1_100);
    assert!(served.bench.is_closed(client));
}

#[test]
fn what_is_no_reply_keeps_its_place() {
    let mut outbound = Outbound::default();
    let large = vec![b'x'; 64 << 10];
    let mut expected = Vec::new();
    for bytes in [&b"a"[..], &large, b"b", &large, b"c"] {
        outbound.push(bytes.to_vec());
        expected.extend_from_slice(bytes);
    }
    let seq = outbound.later(false, Call::NONE, &mut Queues::default());
    outbound.push(b"e".to_vec());
    outbound.complete(seq, b"d", |_| ());
    expected.extend_from_slice(b"de");
    let mut sent = Vec::new();
    while outbound.bytes() > 0 {
        sent.extend(outbound.next_piece());
    }
    assert!(sent == expected);
}
