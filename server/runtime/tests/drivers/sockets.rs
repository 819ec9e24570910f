//! What is listened to, and what an accepted socket is like.

use super::*;

suite!(
    connections_are_spread_in_turn,
    unix_socket,
    ipv6_socket,
    nodelay_and_keepalive_are_set,
);

fn connections_are_spread_in_turn(choice: Choice) {
    let rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        |core, _| {
            let mut outs = Outs::default();
            move |turn: &mut Turn<'_, Mail>| {
                for event in turn.events.iter() {
                    if let Event::Accepted {
                        conn,
                        listener,
                        peer,
                        fd,
                    } = event
                    {
                        assert!(*listener == 0 && *fd > 2 && peer.is_loopback());
                        assert!(matches!(peer, Peer::Tcp { peer, local } if peer != local));
                        outs.add(*conn, &[b'0' + core.0 as u8]);
                        outs.0.get_mut(conn).unwrap().0 = false;
                    }
                }
                for event in std::mem::take(turn.events) {
                    if let Event::Sent { conn, .. } = event {
                        outs.sent(conn);
                    }
                }
                outs.flush(turn);
            }
        },
    );
    let streams: Vec<_> = (0..40).map(|_| rig.connect()).collect();
    let mut counts = [0; 2];
    for mut stream in streams {
        let mut core = [0];
        stream.read_exact(&mut core).unwrap();
        counts[usize::from(core[0] - b'0')] += 1;
    }
    assert_eq!(counts, [20, 20]);
    rig.stop();
}

fn unix_socket(choice: Choice) {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("runtime-{}-{choice:?}.sock", std::process::id()));
    // A socket left over by a dead process is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::unix(&path, 0o600, 16).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let rig = Rig::on(config(choice), listener, |_, _| {
        let mut outs = Outs::default();
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.iter() {
                if let Event::Accepted { peer, .. } = event {
                    assert!(*peer == Peer::Unix && peer.is_loopback());
                }
            }
            echo(turn, &mut outs);
        }
    });
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let sent = pattern(5, 300_000);
    let mut got = vec![0; sent.len()];
    stream.write_all(&sent).unwrap();
    stream.read_exact(&mut got).unwrap();
    assert!(got == sent);
    rig.stop();
    assert!(!path.exists(), "removed at the end");
    std::fs::write(&path, "a document").unwrap();
    assert!(
        Listener::unix(&path, 0, 16).is_err(),
        "only sockets are replaced"
    );
    std::fs::remove_file(&path).unwrap();
}

fn ipv6_socket(choice: Choice) {
    let Ok(listener) = Listener::tcp("[::1]:0".parse().unwrap(), 16) else {
        return; // a machine without IPv6
    };
    let rig = Rig::on(config(choice), listener, |_, _| {
        let mut outs = Outs::default();
        move |turn: &mut Turn<'_, Mail>| echo(turn, &mut outs)
    });
    let mut stream = rig.connect();
    stream.write_all(b"six").unwrap();
    let mut got = [0; 3];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"six");
    rig.stop();
}

fn nodelay_and_keepalive_are_set(choice: Choice) {
    let config = config(choice);
    config
        .keepalive_s
        .store(300, std::sync::atomic::Ordering::Relaxed);
    let rig = Rig::new(config, |_, _| {
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.drain(..) {
                let Event::Accepted { conn, fd, .. } = event else {
                    continue;
                };
                let path = format!("/proc/self/fd/{fd}");
                assert!(
                    std::fs::read_link(path)
                        .unwrap()
                        .to_string_lossy()
                        .contains("socket")
                );
                turn.ops.send(conn, vec![b'k']);
            }
        }
    });
    let mut stream = rig.connect();
    stream.read_exact(&mut [0]).unwrap();
    let local = stream.local_addr().unwrap();
    // Our own table of descriptors holds the server's end too: the one whose peer is our end.
    let ends = (3..2000).filter_map(|fd| {
        let path = format!("/proc/self/fd/{fd}");
        std::fs::read_link(path)
            .ok()
            .filter(|link| link.to_string_lossy().contains("socket"))?;
        server_end(fd, local)
    });
    let found: Vec<(bool, bool, Duration)> = ends.collect();
    assert_eq!(found, [(true, true, Duration::from_secs(300))]);
    rig.stop();
}

/// Options of a descriptor of this process if its peer is `peer`.
fn server_end(fd: i32, peer: SocketAddr) -> Option<(bool, bool, Duration)> {
    use rustix::net::{getpeername, sockopt};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let me = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    let fd = pidfd_getfd(me, fd, PidfdGetfdFlags::empty()).ok()?;
    let addr = SocketAddr::try_from(getpeername(&fd).ok()??).ok()?;
    if addr != peer {
        return None;
    }
    Some((
        sockopt::tcp_nodelay(&fd).ok()?,
        sockopt::socket_keepalive(&fd).ok()?,
        sockopt::tcp_keepidle(&fd).ok()?,
    ))
}
