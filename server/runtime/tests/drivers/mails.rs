//! Mail between cores and from outside: its order, its waking, its bounds.

use super::*;

suite!(
    mail_is_fifo_both_ways,
    ping_pong_never_hangs,
    overflow_reaches_its_maximum,
    mail_from_outside,
);

fn mail_is_fifo_both_ways(choice: Choice) {
    const COUNT: u64 = 100_000;
    let (tell, told) = channel();
    let small = Config {
        cores: 2,
        mailbox_len_max: 64,
        ..config(choice)
    };
    let rig = Rig::new(small, move |core, _| {
        let tell = tell.clone();
        let mut posted = 0;
        let mut order = InOrder(HashMap::new());
        move |turn: &mut Turn<'_, Mail>| {
            let other = CoreId(1 - core.0);
            // A lump is larger than a lane, so the overflow queue is in use all the time.
            while posted < COUNT && turn.ops.backlog_len(other) < 1000 {
                for number in posted..posted + 500 {
                    turn.ops.post(other, Mail::Number(core.0.into(), number));
                }
                posted += 500;
                if posted.is_multiple_of(2500) {
                    break;
                }
            }
            if posted < COUNT {
                turn.ops.again();
            }
            for mail in turn.mail.drain(..) {
                let Mail::Number(sender, number) = mail else {
                    continue;
                };
                if order.take(sender, number) == COUNT {
                    tell.send(format!("core {}", core.0)).unwrap();
                }
            }
        }
    });
    let mut lines = [
        told.recv_timeout(TIMEOUT).unwrap(),
        told.recv_timeout(TIMEOUT).unwrap(),
    ];
    lines.sort();
    assert_eq!(lines, ["core 0", "core 1"]);
    rig.stop();
}

fn ping_pong_never_hangs(choice: Choice) {
    const COUNT: u64 = 20_000;
    let (tell, told) = channel();
    let rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        move |core, _| {
            let tell = tell.clone();
            let mut served = false;
            move |turn: &mut Turn<'_, Mail>| {
                if core.0 == 0 && !std::mem::replace(&mut served, true) {
                    turn.ops.post(CoreId(1), Mail::Number(0, 0));
                }
                for mail in turn.mail.drain(..) {
                    match mail {
                        Mail::Number(_, COUNT) => tell.send("done".to_owned()).unwrap(),
                        Mail::Number(_, n) => {
                            turn.ops.post(CoreId(1 - core.0), Mail::Number(0, n + 1))
                        }
                        _ => {}
                    }
                }
            }
        },
    );
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "done");
    rig.stop();
}

fn overflow_reaches_its_maximum(choice: Choice) {
    // More than the overflow maximum (65,536) in one turn, to a core that is slow to take it.
    const COUNT: u64 = 150_000;
    let (tell, told) = channel();
    let config = Config {
        cores: 2,
        mailbox_len_max: 128,
        mail_per_turn_max: 100,
        ..config(choice)
    };
    let rig = Rig::new(config, move |core, _| {
        let tell = tell.clone();
        let mut served = false;
        let mut order = InOrder(HashMap::new());
        move |turn: &mut Turn<'_, Mail>| {
            if core.0 == 0 && !std::mem::replace(&mut served, true) {
                for number in 0..COUNT {
                    turn.ops.post(CoreId(1), Mail::Number(0, number));
                    turn.ops.post(CoreId(0), Mail::Number(9, number));
                }
            }
            for mail in turn.mail.drain(..) {
                let Mail::Number(sender, number) = mail else {
                    continue;
                };
                if order.take(sender, number) == COUNT {
                    tell.send(format!("from {sender}")).unwrap();
                }
            }
        }
    });
    let mut lines = [
        told.recv_timeout(TIMEOUT).unwrap(),
        told.recv_timeout(TIMEOUT).unwrap(),
    ];
    lines.sort();
    assert_eq!(lines, ["from 0", "from 9"]);
    rig.stop();
}

fn mail_from_outside(choice: Choice) {
    const COUNT: u64 = 10_000;
    let (tell, told) = channel();
    let config = Config {
        cores: 2,
        mailbox_len_max: 100,
        ..config(choice)
    };
    let rig = Rig::new(config, move |core, _| {
        let tell = tell.clone();
        let mut order = InOrder(HashMap::new());
        move |turn: &mut Turn<'_, Mail>| {
            for mail in turn.mail.drain(..) {
                let Mail::Number(sender, number) = mail else {
                    continue;
                };
                if order.take(sender, number) == COUNT {
                    tell.send(format!("{} {sender}", core.0)).unwrap();
                }
            }
        }
    });
    let threads: Vec<_> = (0..4u64)
        .map(|sender| {
            let handle = rig.handle.clone();
            std::thread::spawn(move || {
                for number in 0..COUNT {
                    for core in [CoreId(0), CoreId(1)] {
                        let mut mail = Mail::Number(sender, number);
                        while let Err(back) = handle.post(core, mail) {
                            mail = back;
                            std::thread::yield_now();
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    for _ in 0..8 {
        told.recv_timeout(TIMEOUT).unwrap();
    }
    assert!(
        rig.handle.post(CoreId(2), Mail::Stop).is_err(),
        "no such core"
    );
    rig.stop();
}
