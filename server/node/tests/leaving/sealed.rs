//! An old Redis that is reached by TLS alone: the copy, the stream, requests in front, and what is written to it.

use std::time::Duration;

use crate::certificates;
use crate::folder::Folder;
use crate::programs::{Client, done, free_port, info, status, until};
use crate::written::{Load, Move};

/// The options of a server (Redis's and ours have the same) that shows this certificate and wants one of its clients.
fn options(folder: &Folder, name: &str, tls_port: u16) -> Vec<String> {
    let file = |name: String| folder.0.join(name).display().to_string();
    let words = [
        ("--tls-port", tls_port.to_string()),
        ("--tls-ca-cert-file", file("ca.pem".to_owned())),
        ("--tls-cert-file", file(format!("{name}.pem"))),
        ("--tls-key-file", file(format!("{name}.key"))),
    ];
    words.map(|(name, value)| [name.to_owned(), value]).concat()
}

/// The move of an application whose old Redis speaks TLS; `old` and `way` as of [`Move::of`].
fn sealed(name: &str, old: &[&str], way: impl Fn(u16) -> String) -> Option<(Folder, Move)> {
    let folder = Folder::new(&format!("leaving-{name}"));
    certificates::write(&folder.0, "ca", &["old", "node"]);
    let (there, here) = (free_port(), free_port());
    let old_options = options(&folder, "old", there);
    let old: Vec<&str> = old_options
        .iter()
        .map(String::as_str)
        .chain(old.iter().copied())
        .collect();
    let node_options = options(&folder, "node", here);
    let node: Vec<&str> = node_options.iter().map(String::as_str).collect();
    let mut moves = Move::of(&old, &node, &way(here))?;
    moves.source = format!("127.0.0.1:{there}");
    Some((folder, moves))
}

/// All the way there, back and there again, under load; both have the same at the end.
fn goes_and_comes_back(moves: &Move) {
    let mut old = Client::try_new(moves.old.port).unwrap();
    for n in 0..2000 {
        old.call(&format!("HSET h:{n} f {n}")).unwrap();
        old.call(&format!("SET s:{n} {n} EX 100000")).unwrap();
    }
    let large = "v".repeat(300_000);
    old.call(&format!("SET large {large}")).unwrap();
    moves.start();
    moves.followed();
    done(moves.node.admin, &["advance"]);
    let load = Load::begin(moves.node.port, "app");
    for phase in ["reverse", "verify", "reverse"] {
        load.goes_on();
        match phase {
            "verify" => done(moves.node.admin, &["back"]),
            _ => {
                if status(moves.node.admin, "/phase") == "\"front\"" {
                    done(moves.node.admin, &["advance"]);
                }
                moves.compared();
                done(moves.node.admin, &["advance"])
            }
        };
        assert_eq!(status(moves.node.admin, "/phase"), format!("\"{phase}\""));
    }
    load.goes_on();
    assert!(load.end() > 0);
}

#[test]
fn a_redis_behind_tls_is_moved_from_and_follows() {
    let options = [
        "--repl-diskless-sync-delay",
        "0",
        "--tls-replication",
        "yes",
    ];
    let way = |here| format!("--tls --announce 127.0.0.1:{here}");
    let Some((_folder, moves)) = sealed("follows", &options, way) else {
        return;
    };
    goes_and_comes_back(&moves);
    let (mut here, mut old) = (moves.client(), Client::try_new(moves.old.port).unwrap());
    // (The last short keys end, and that is told.)
    std::thread::sleep(Duration::from_millis(200));
    until("the old Redis has all", || {
        info(&mut here, "master_repl_offset") == info(&mut old, "master_repl_offset")
    });
    moves.equal();
}

#[test]
fn a_redis_behind_tls_is_written_to() {
    let users = "--user app on nopass ~* &* +@all -flushall";
    let durable = "--appendonly yes --appendfsync always";
    let options: Vec<&str> = durable.split(' ').chain(users.split(' ')).collect();
    let way = |_| "--tls --old-side written --bar-users app".to_owned();
    let Some((_folder, moves)) = sealed("written", &options, way) else {
        return;
    };
    goes_and_comes_back(&moves);
    moves.drained();
    moves.equal();
}
