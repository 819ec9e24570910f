//! A core's loop: when it wakes, how it stops, what it counts.

use super::*;

suite!(
    wake_at_fires,
    stop_drains_sends_and_mail,
    many_cores_stop_when_told,
    a_panic_is_told_by_join,
    statistics_count_and_reset,
);

fn wake_at_fires(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut due: Option<u64> = None;
        let mut fired = 0;
        move |turn: &mut Turn<'_, Mail>| {
            if due.is_some_and(|due| turn.now.unix_ms >= due) {
                fired += 1;
                due = None;
                tell.send(format!("fired {fired}")).unwrap();
            }
            if fired < 3 {
                let at = *due.get_or_insert(turn.now.unix_ms + 20);
                turn.ops.wake_at(at + 100_000);
                turn.ops.wake_at(at);
            }
        }
    });
    let began = Instant::now();
    for n in 1..=3 {
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), format!("fired {n}"));
    }
    assert!(
        began.elapsed() >= Duration::from_millis(55),
        "not before its time"
    );
    rig.stop();
}

fn stop_drains_sends_and_mail(choice: Choice) {
    let (tell, told): (Told, Receiver<String>) = channel();
    let rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        move |core, _| {
            let tell = tell.clone();
            let mut order = InOrder(HashMap::new());
            move |turn: &mut Turn<'_, Mail>| {
                for event in turn.events.drain(..) {
                    if let Event::Data { conn, .. } = event {
                        turn.ops.send(conn, vec![5; 8 << 20]);
                        for number in 0..5000 {
                            turn.ops.post(CoreId(1 - core.0), Mail::Number(0, number));
                        }
                        turn.ops.stop();
                    }
                }
                for mail in turn.mail.drain(..) {
                    if let Mail::Number(sender, number) = mail
                        && order.take(sender, number) == 5000
                    {
                        tell.send("all mail".to_owned()).unwrap();
                    }
                }
            }
        },
    );
    let mut stream = rig.connect();
    stream.write_all(b"bye").unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 8 << 20);
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "all mail");
    rig.stop();
}

fn many_cores_stop_when_told(choice: Choice) {
    let rig = echo_rig(Config {
        cores: 6,
        ..config(choice)
    });
    let streams: Vec<_> = (0..12).map(|_| rig.connect()).collect();
    for mut stream in &streams {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let handle = rig.handle.clone();
    rig.stop();
    for mut stream in streams {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "closed by the end");
    }
    assert!(
        handle.post(CoreId(0), Mail::Close).is_err(),
        "nobody is there"
    );
}

fn a_panic_is_told_by_join(choice: Choice) {
    let mut rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        |core, _| {
            move |turn: &mut Turn<'_, Mail>| {
                if core.0 == 1 && turn.mail.iter().any(|mail| matches!(mail, Mail::Close)) {
                    panic!("as asked");
                }
            }
        },
    );
    let mut stream = rig.connect();
    rig.handle.post(CoreId(1), Mail::Close).unwrap();
    let error = rig.running.take().unwrap().join().unwrap_err();
    assert!(error.to_string().contains("core 1") && error.to_string().contains("as asked"));
    drop(rig);
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}

fn statistics_count_and_reset(choice: Choice) {
    let rig = echo_rig(config(choice));
    rig.handle.stats(CoreId(0)).unwrap().cpu_clock(true);
    let mut stream = rig.connect();
    for _ in 0..100 {
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    }
    // Ends the turn that counts the last send.
    rig.handle.post(CoreId(0), Mail::Resume).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let stats = rig.handle.stats(CoreId(0)).unwrap();
    let now = stats.read();
    assert!(now.bytes_in >= 500 && now.bytes_out >= 500 && now.recvs >= 100 && now.sends >= 100);
    assert!(now.turns >= 100 && now.kernel_entries >= 100 && now.turn_longest_us > 0);
    stats.reset();
    assert!(stats.read().bytes_in <= 10);
    assert_eq!(
        rig.handle.driver(),
        if choice == Choice::Epoll {
            "epoll"
        } else {
            "io_uring"
        }
    );
    rig.stop();
}
