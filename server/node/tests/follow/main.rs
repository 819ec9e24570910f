//! A node that follows a Redis: a full copy, the stream, links that are cut, ends of either side. Skipped aloud without redis-server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

#[path = "../common/folder.rs"]
mod folder;
mod hostile;
mod load;
mod servers;

use protocol::answer::Answer;

use folder::Folder;
use load::{Chance, catch_up, compare, play};
use servers::{Server, wait_for};

fn follow(replica: &Server, primary: &Server) {
    let replicaof = format!("REPLICAOF 127.0.0.1 {}", primary.port);
    assert_eq!(replica.client().text(&replicaof), "OK");
}

/// Loads while `meanwhile` runs; no less than so many requests.
fn load_during(primary: &Server, chance: &mut Chance, requests: usize, meanwhile: impl FnOnce()) {
    let (mut client, seed) = (primary.client(), chance.below(1 << 30));
    std::thread::scope(|scope| {
        let loads = scope.spawn(move || play(&mut client, &mut Chance(seed), requests));
        meanwhile();
        loads.join().unwrap();
    });
}

#[test]
fn a_mixed_load_is_followed_and_a_cut_link_goes_on() {
    for diskless in ["yes", "no"] {
        let folder = Folder::new(&format!("load-{diskless}"));
        let more = [
            "--repl-diskless-sync",
            diskless,
            "--repl-backlog-size",
            "64mb",
        ];
        let Some(primary) = Server::redis(&folder.below("redis"), &more) else {
            return;
        };
        let replica_folder = folder.below("meridian");
        let replica = Server::meridian(&replica_folder, &[]);
        assert_eq!(replica.client().text("SET stray 1"), "OK");
        let mut chance = Chance(11);
        play(&mut primary.client(), &mut chance, 20_000);
        load_during(&primary, &mut chance, 20_000, || follow(&replica, &primary));
        catch_up(&primary, &replica);
        compare(&primary, &replica);
        assert_eq!(replica.client().text("EXISTS stray"), "0");
        for round in 1..=3 {
            load_during(&primary, &mut chance, 20_000, || {
                let killed = primary.client().text("CLIENT KILL TYPE replica");
                assert_eq!(killed, "1");
                wait_for("a link that goes on", || {
                    primary.info("sync_partial_ok") == round.to_string()
                });
            });
            catch_up(&primary, &replica);
            compare(&primary, &replica);
        }
        assert_eq!(primary.info("sync_full"), "1");
        // What SHUTDOWN leaves goes on from its offset, too.
        let mut client = replica.client();
        client.send(&["SHUTDOWN", "SAVE"]);
        replica.leave();
        play(&mut primary.client(), &mut chance, 5_000);
        let replicaof = format!("127.0.0.1 {}", primary.port);
        let replica = Server::meridian(&replica_folder, &["--replicaof", &replicaof]);
        catch_up(&primary, &replica);
        compare(&primary, &replica);
        assert_eq!(primary.info("sync_full"), "1");
    }
}

#[test]
fn a_killed_replica_goes_on_from_its_log_and_doubles_nothing() {
    let folder = Folder::new("killed");
    let Some(primary) = Server::redis(&folder.below("redis"), &["--repl-backlog-size", "64mb"])
    else {
        return;
    };
    let place = folder.below("meridian");
    let replicaof = format!("127.0.0.1 {}", primary.port);
    let args = ["--appendonly", "yes", "--replicaof", &replicaof];
    let mut chance = Chance(5);
    play(&mut primary.client(), &mut chance, 10_000);
    let mut replica = Some(Server::meridian(&place, &args));
    let of = |replica: &Option<Server>, name: &str| replica.as_ref().unwrap().info(name);
    wait_for("a base of the log", || {
        of(&replica, "master_link_status") == "up"
            && of(&replica, "aof_base_size")
                .parse::<u64>()
                .is_ok_and(|bytes| bytes > 1000)
    });
    for round in 1..=5 {
        load_during(&primary, &mut chance, 15_000, || {
            let offset = of(&replica, "slave_repl_offset");
            wait_for("some of the stream", || {
                of(&replica, "slave_repl_offset") != offset
            });
            replica.take().unwrap().kill();
            replica = Some(Server::meridian(&place, &args));
        });
        let replica = replica.as_ref().unwrap();
        catch_up(&primary, replica);
        compare(&primary, replica);
        assert_eq!(
            (primary.info("sync_full"), primary.info("sync_partial_ok")),
            ("1".to_owned(), round.to_string())
        );
    }
}

#[test]
fn without_the_backlog_all_is_copied_again() {
    let folder = Folder::new("backlog");
    let Some(primary) = Server::redis(&folder.below("redis"), &["--repl-backlog-size", "16kb"])
    else {
        return;
    };
    let place = folder.below("meridian");
    let replica = Server::meridian(&place, &["--appendonly", "yes"]);
    let mut chance = Chance(3);
    play(&mut primary.client(), &mut chance, 5_000);
    follow(&replica, &primary);
    catch_up(&primary, &replica);
    for copies in 2..=3 {
        // The replica cannot come back before the backlog is gone.
        let mut client = primary.client();
        let long = "x".repeat(100_000);
        for text in ["MULTI", "SET gone x", "CLIENT KILL TYPE replica"] {
            client.call(text);
        }
        client.words(&["SET", "long", &long]);
        client.words(&["SET", "long", &long]);
        client.call("EXEC");
        wait_for("another copy", || {
            primary.info("sync_full") == copies.to_string()
        });
        play(&mut client, &mut chance, 2_000);
        catch_up(&primary, &replica);
        compare(&primary, &replica);
    }
    // Killed at once: the log has the base of the last copy, or that of one before, with its own offset.
    replica.kill();
    let replicaof = format!("127.0.0.1 {}", primary.port);
    let replica = Server::meridian(&place, &["--appendonly", "yes", "--replicaof", &replicaof]);
    catch_up(&primary, &replica);
    compare(&primary, &replica);
}

#[test]
fn a_replica_shows_itself_as_one() {
    let folder = Folder::new("role");
    let Some(primary) = Server::redis(&folder.below("redis"), &["--requirepass", "secret"]) else {
        return;
    };
    let replica = Server::meridian(&folder.below("meridian"), &[]);
    let mut client = replica.client();
    let mut blocked = replica.client();
    blocked.send(&["BLPOP", "nothing", "0"]);
    wait_for("a client that waits", || {
        replica.info("blocked_clients") == "1"
    });
    follow(&replica, &primary);
    let told = servers::show(&blocked.answer());
    assert!(
        told.starts_with("-UNBLOCKED force unblock from blocking operation"),
        "{told}"
    );
    assert_eq!(blocked.try_answer(), None, "its connection is closed");
    // It is not let in, and says so.
    wait_for("a link that is refused", || {
        replica.info("master_link_down_since_seconds") != "-1"
    });
    assert_eq!(client.text("ROLE").split(',').next(), Some("slave"));
    assert_eq!(
        client.text("SET k v"),
        "-READONLY You can't write against a read only replica."
    );
    assert_eq!(client.text("GET k"), "Null");
    // What it has may be old: whoever asks for a copy, the source itself perhaps, does not get that one.
    for asks in ["PSYNC ? -1", "SYNC"] {
        assert_eq!(
            replica.client().text(asks),
            "-NOMASTERLINK Can't SYNC while not connected with my master"
        );
    }
    assert_eq!(
        client.text("CONFIG SET replica-serve-stale-data no masterauth secret"),
        "OK"
    );
    wait_for("the link", || replica.info("master_link_status") == "up");
    let mut source = primary.client();
    source.call("AUTH secret");
    assert_eq!(source.text("SET k v"), "OK");
    wait_for("the key", || client.text("GET k") == "v");
    let offset = replica.info("slave_repl_offset");
    assert_eq!(
        client.text("ROLE"),
        format!("slave,127.0.0.1,{},connected,{offset}", primary.port)
    );
    for (name, value) in [
        ("role", "slave"),
        ("slave_read_only", "1"),
        ("master_sync_in_progress", "0"),
        ("slave_priority", "100"),
    ] {
        assert_eq!(replica.info(name), value, "{name}");
    }
    let again = client.text(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    assert_eq!(again, "OK Already connected to specified master");
    // Hidden after its deadline, and there until the source says DEL.
    source.call("DEBUG SET-ACTIVE-EXPIRE 0");
    source.call("SET short v PX 200");
    wait_for("the key", || client.text("DBSIZE") == "2");
    wait_for("its deadline", || client.text("GET short") == "Null");
    assert_eq!(
        (client.text("DBSIZE"), client.text("EXISTS short")),
        ("2".to_owned(), "0".to_owned())
    );
    assert_eq!(source.text("GET short"), "Null");
    wait_for("its end", || client.text("DBSIZE") == "1");
    // Messages come through, and scripts may not write.
    let mut listener = replica.client();
    listener.call("SUBSCRIBE news");
    source.call("PUBLISH news hello");
    assert_eq!(servers::show(&listener.answer()), "message,news,hello");
    let script = client.words(&["EVAL", "return redis.call('SET', 'k', 'x')", "1", "k"]);
    assert!(servers::show(&script).contains("READONLY"), "{script:?}");
    source.call("WAIT 1 1000");
    drop(primary);
    wait_for("a link that is lost", || {
        client.text("GET k").starts_with("-MASTERDOWN")
    });
    assert_eq!(client.text("CONFIG SET replica-serve-stale-data yes"), "OK");
    assert_eq!(client.text("GET k"), "v");
    assert_eq!(client.text("REPLICAOF NO ONE"), "OK");
    assert_eq!(client.text("SET k w"), "OK");
    assert!(
        matches!(client.call("ROLE"), Answer::Array(all) if all[0] == Answer::Bulk(b"master".to_vec()))
    );
}
