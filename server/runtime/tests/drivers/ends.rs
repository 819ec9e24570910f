//! How connections end, and that nothing is taken for another connection's.

use super::*;

suite!(
    close_in_the_middle_of_a_send,
    a_reset_is_told,
    an_end_of_stream_is_answered_first,
    who_has_sent_his_last_byte_may_be_kept,
    churn_never_confuses_connections,
    stale_ids_are_ignored,
);

fn close_in_the_middle_of_a_send(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut open = None;
        move |turn: &mut Turn<'_, Mail>| {
            for event in std::mem::take(turn.events) {
                match event {
                    Event::Accepted { conn, .. } => {
                        open = Some(conn);
                        turn.ops.send(conn, vec![7; 64 << 20]);
                    }
                    Event::Data { conn, .. } => {
                        turn.ops.close(conn);
                        turn.ops.close(conn);
                        turn.ops.send(conn, vec![8; 100]);
                    }
                    Event::Closed { conn, cause } => {
                        assert_eq!(open.take(), Some(conn));
                        tell.send(format!("{cause:?}")).unwrap();
                    }
                    Event::Sent { .. } => panic!("nobody reads"),
                    Event::Progress { sent, .. } => assert!(sent < 64 << 20),
                    Event::Filled { .. } | Event::Ended { .. } => {}
                }
            }
        }
    });
    for _ in 0..5 {
        let mut stream = rig.connect();
        let mut first = [0; 1000];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, [7; 1000]);
        stream.write_all(b"x").unwrap();
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "Asked");
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
        assert!(rest.iter().all(|byte| *byte == 7));
    }
    rig.stop();
}

/// Tells `closed` lines, echoes, and closes on `x`.
fn closing_rig(config: Config, tell: Told) -> Rig {
    Rig::new(config, move |_, _| {
        let tell = tell.clone();
        let mut outs = Outs::default();
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.iter() {
                if let Event::Closed { cause, .. } = event {
                    tell.send(format!("{cause:?}")).unwrap();
                }
            }
            echo(turn, &mut outs);
        }
    })
}

fn a_reset_is_told(choice: Choice) {
    let (tell, told) = channel();
    let rig = closing_rig(config(choice), tell);
    let mut stream = rig.connect();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    let reset = format!(
        "{:?}",
        Cause::Failed(rustix::io::Errno::CONNRESET.raw_os_error())
    );
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), reset);
    rig.stop();
}

fn who_has_sent_his_last_byte_may_be_kept(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut kept: Option<(ConnId, u64)> = None;
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.drain(..) {
                match event {
                    Event::Ended { conn } => {
                        turn.ops.linger(conn);
                        kept = Some((conn, turn.now.mono_us + 20_000));
                    }
                    Event::Sent { conn, .. } => turn.ops.close(conn),
                    Event::Closed { cause, .. } => tell.send(format!("{cause:?}")).unwrap(),
                    _ => {}
                }
            }
            if let Some((conn, at_us)) = kept {
                if turn.now.mono_us < at_us {
                    turn.ops.wake_at(turn.now.unix_ms + 5);
                } else {
                    turn.ops.send(conn, b"late".to_vec());
                    kept = None;
                }
            }
        }
    });
    let mut stream = rig.connect();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"late");
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "PeerClosed");
    rig.stop();
}

fn an_end_of_stream_is_answered_first(choice: Choice) {
    let (tell, told) = channel();
    let rig = closing_rig(config(choice), tell);
    for len in [5usize, 3 << 20] {
        let mut stream = rig.connect();
        let sent = pattern(3, len);
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = vec![0; len.min(4096)];
        stream.read_exact(&mut got).unwrap();
        assert!(sent.starts_with(&got));
        writing.join().unwrap();
        let _rest = stream.read_to_end(&mut got);
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "PeerClosed");
    }
    rig.stop();
}

fn churn_never_confuses_connections(choice: Choice) {
    let cores = 2;
    let rig = echo_rig(Config {
        cores,
        accept_per_turn_max: 3,
        ..config(choice)
    });
    let threads: Vec<_> = (0..10u64)
        .map(|t| {
            let addr = rig.addr;
            std::thread::spawn(move || {
                for n in 0..50u64 {
                    let mut stream = dial(addr);
                    let sent = pattern(t << 32 | n, 8 + (n as usize * 37) % 300);
                    stream.write_all(&sent).unwrap();
                    if n % 3 == 0 {
                        continue; // gone while the echo is under way
                    }
                    let mut got = vec![0; sent.len()];
                    stream.read_exact(&mut got).unwrap();
                    assert!(got == sent, "another connection's bytes");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    rig.stop();
}

fn stale_ids_are_ignored(choice: Choice) {
    let rig = Rig::new(config(choice), move |_, _| {
        let mut outs = Outs::default();
        let mut stale: Vec<ConnId> = Vec::new();
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.iter() {
                match event {
                    Event::Closed { conn, .. } => stale.push(*conn),
                    Event::Accepted { conn, .. } => assert!(!stale.contains(conn)),
                    _ => {}
                }
            }
            echo(turn, &mut outs);
            for conn in &stale {
                turn.ops.send(*conn, b"stale".to_vec());
                turn.ops.pause_recv(*conn);
                turn.ops.recv_into(*conn, Vec::new(), 100);
                turn.ops.resume_recv(*conn);
                turn.ops.close(*conn);
            }
            turn.ops.close(ConnId::from_u64(u64::MAX >> 1));
        }
    });
    for n in 0..20u64 {
        let mut stream = rig.connect();
        for _ in 0..5 {
            stream.write_all(&pattern(n, 50)).unwrap();
            let mut got = [0; 50];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got[..], pattern(n, 50));
        }
    }
    rig.stop();
}
