//! Sources that are wrong: nothing of what they say is taken in, and what is here stays.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::folder::Folder;
use super::servers::{Server, wait_for};

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// A source that answers as these say, each link as the next one; what it answers PSYNC with, and all that follows.
fn source(says: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for say in says {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            serve(&mut stream, &say);
        }
    });
    port
}

/// Answers what precedes PSYNC, says it, and waits until the replica hangs up.
fn serve(stream: &mut TcpStream, say: &[u8]) {
    let (mut heard, mut piece, mut answered) = (Vec::new(), [0; 4096], 0);

    while let Ok(read) = stream.read(&mut piece) {
        if read == 0 {
            return;
        }
        heard.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&heard).into_owned();
        let stages = [
            ("PING\r\n", &b"+PONG\r\n"[..]),
            (
                "version\r\n",
                b"*2\r\n$10\r\n1700000000\r\n$1\r\n7\r\n+OK\r\n+OK\r\n+OK\r\n",
            ),
            ("PSYNC\r\n", say),
        ];
        while let Some((word, answer)) = stages.get(answered)
            && text.contains(word)
        {
            let _sent = stream.write_all(answer);
            answered += 1;
        }
    }
}

/// A file with one key, and what a source says that sends it: a stream may follow.
fn file(inside: &[u8]) -> Vec<u8> {
    let mut file = b"REDIS0009".to_vec();
    file.extend_from_slice(inside);
    file.push(255);
    // (No checksum.)
    file.extend([0; 8]);
    let head = format!("+FULLRESYNC {ID} 100\r\n${}\r\n", file.len());
    [head.as_bytes(), &file].concat()
}

fn good() -> Vec<u8> {
    file(b"\xfe\x00\x00\x03key\x05value")
}

fn stream(requests: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        protocol::request::encode(&request.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    bytes
}

#[test]
fn what_is_damaged_is_told_and_changes_nothing() {
    let folder = Folder::new("hostile");
    let place = folder.below("meridian");
    let log = || std::fs::read_to_string(place.join("log.txt")).unwrap();
    let replica = Server::meridian(&place, &[]);
    let mut client = replica.client();
    client.call("SET mine 1");
    let truncated = |bytes: Vec<u8>| bytes[..bytes.len() - 12].to_vec();
    let mut wrong_sum = good();
    let end = wrong_sum.len();
    wrong_sum[end - 8..].copy_from_slice(&7u64.to_le_bytes());
    for (say, part) in [
        (
            b"-ERR unknown command 'PSYNC'\r\n".to_vec(),
            "refuses PSYNC",
        ),
        (b"+CONTINUE\r\n".to_vec(), "answers PSYNC"),
        (
            file(b"\xfe\x00\x07\x03key\x81\x00\x00\x00\x00\x00\x00\x00\x00\x02\x01\x00"),
            "module",
        ),
        (file(b"\xfe\x00\x2f\x03key"), "unknown type"),
        (
            file(b"\xfe\x40\xff\x00\x03key\x05value"),
            "database 255 is out of range",
        ),
        (
            [
                format!("+FULLRESYNC {ID} 100\r\n$9\r\n").as_bytes(),
                b"REDIS9999",
            ]
            .concat(),
            "version 9999",
        ),
        (wrong_sum, "wrong checksum"),
        (b"x".repeat(10_000), "no Redis"),
    ] {
        let port = source(vec![say.clone(), say]);
        assert_eq!(client.text(&format!("REPLICAOF 127.0.0.1 {port}")), "OK");
        let told = format!("Following 127.0.0.1:{port}");
        wait_for(part, || {
            log()
                .lines()
                .any(|line| line.contains(&told) && line.contains(part))
        });
        assert_eq!(client.text("GET mine"), "1", "{part}");
        assert_eq!(replica.info("master_link_status"), "down");
    }
    // A link that breaks in the middle of the file changes nothing either.
    let port = source(vec![truncated(good())]);
    assert_eq!(client.text(&format!("REPLICAOF 127.0.0.1 {port}")), "OK");
    wait_for("a copy", || replica.info("master_sync_in_progress") == "1");
    assert_eq!(client.text("GET mine"), "1");
    assert_eq!(client.text("REPLICAOF NO ONE"), "OK");
    assert_eq!(client.text("GET mine"), "1");
}

#[test]
fn a_stream_that_cannot_be_executed_ends_the_link_and_keeps_the_offset() {
    let folder = Folder::new("stream");
    let place = folder.below("meridian");
    let log = || std::fs::read_to_string(place.join("log.txt")).unwrap();
    let replica = Server::meridian(&place, &["--appendonly", "yes"]);
    let mut client = replica.client();
    for (bad, part) in [
        (
            stream(&["FROBNICATE key"]),
            "'FROBNICATE key': the command is not known",
        ),
        (stream(&["SHUTDOWN NOSAVE"]), "does not replicate"),
        (stream(&["REPLICAOF NO ONE"]), "does not replicate"),
        (
            stream(&["SELECT 77", "SET a b"]),
            "this server has 16 databases",
        ),
        (stream(&["MULTI", "INCR n", "MULTI"]), "inside of another"),
        (
            stream(&["MULTI", "INCR n", "SET a"]),
            "wrong number of words",
        ),
        (b"*1\r\n:5\r\n".to_vec(), "expected '$'"),
    ] {
        let before = stream(&["SELECT 0", "INCR n"]);
        let all = [good(), before.clone(), bad].concat();
        let port = source(vec![all]);
        assert_eq!(client.text(&format!("REPLICAOF 127.0.0.1 {port}")), "OK");
        let told = format!("Following 127.0.0.1:{port}");
        wait_for(part, || {
            log()
                .lines()
                .any(|line| line.contains(&told) && line.contains(part))
        });
        // What came before it was executed, once, and nothing behind it.
        assert_eq!(client.text("GET n"), "1", "{part}");
        assert_eq!(client.text("GET key"), "value", "{part}");
        assert_eq!(
            replica.info("slave_repl_offset"),
            (100 + before.len()).to_string(),
            "{part}"
        );
        assert_eq!(client.text("REPLICAOF NO ONE"), "OK");
    }
}
