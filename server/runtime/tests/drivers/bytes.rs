//! Bytes that come and go: echoes, large values, more than the buffers hold.

use super::*;

suite!(
    echo_with_pipelining,
    ten_megabytes_both_ways_with_a_slow_reader,
    a_large_value_goes_straight_into_its_buffer,
    a_fill_larger_than_a_gigabyte_costs_nothing,
    a_full_or_empty_wish_is_granted_at_once,
    more_data_than_buffers,
    pause_and_resume,
);

fn echo_with_pipelining(choice: Choice) {
    let rig = echo_rig(config(choice));
    let clients: Vec<_> = (0..20u64)
        .map(|seed| {
            let mut stream = rig.connect();
            std::thread::spawn(move || {
                for round in 0..100u64 {
                    let len = 1 + (seed * 977 + round * 331) as usize % 5000;
                    let sent = pattern(seed << 32 | round, len);
                    for piece in sent.chunks(1 + len / 7) {
                        stream.write_all(piece).unwrap();
                    }
                    let mut got = vec![0; len];
                    stream.read_exact(&mut got).unwrap();
                    assert!(got == sent, "round {round} of client {seed}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    rig.stop();
}

fn ten_megabytes_both_ways_with_a_slow_reader(choice: Choice) {
    let rig = echo_rig(config(choice));
    let mut stream = rig.connect();
    let sent = pattern(7, 10 << 20);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    // The echo holds whatever the socket does not take, so the writer ends before the first byte is read.
    writing.join().unwrap();
    let mut got = Vec::new();
    let mut piece = [0; 3001];
    while got.len() < sent.len() {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "ended after {}", got.len());
        got.extend_from_slice(&piece[..n]);
        std::thread::yield_now();
    }
    assert!(got == sent);
    rig.stop();
}

/// Frames `len u32 LE, bytes`; a frame that is not whole when the turn ends is received into its own buffer.
fn framed(tell: Told) -> impl FnMut(&mut Turn<'_, Mail>) {
    let mut ins: HashMap<ConnId, Vec<u8>> = HashMap::new();
    let mut filling: HashMap<ConnId, bool> = HashMap::new();
    let mut outs = Outs::default();
    move |turn| {
        let mut touched = Vec::new();
        for event in std::mem::take(turn.events) {
            match event {
                Event::Data { conn, span } => {
                    assert_ne!(filling.get(&conn), Some(&true), "no data while filling");
                    ins.entry(conn)
                        .or_default()
                        .extend_from_slice(turn.bytes(span));
                    touched.push(conn);
                }
                Event::Filled { conn, buffer } => {
                    filling.insert(conn, false);
                    tell.send(format!("filled {} cap {}", buffer.len(), buffer.capacity()))
                        .unwrap();
                    assert!(ins.insert(conn, buffer).is_none_or(|old| old.is_empty()));
                    touched.push(conn);
                }
                Event::Sent { conn, .. } => outs.sent(conn),
                Event::Closed { conn, cause } => {
                    outs.0.remove(&conn);
                    tell.send(format!("closed {cause:?}")).unwrap();
                }
                Event::Accepted { .. } | Event::Progress { .. } | Event::Ended { .. } => {}
            }
        }
        for conn in touched {
            let input = ins.entry(conn).or_default();
            let mut bytes = std::mem::take(input);
            while let Some(head) = bytes.first_chunk::<4>() {
                let len = 4 + u32::from_le_bytes(*head) as usize;
                if bytes.len() < len {
                    break;
                }
                let rest = bytes.split_off(len);
                outs.add(conn, &bytes[4..]);
                bytes = rest;
            }
            match bytes.first_chunk::<4>() {
                Some(head) => {
                    filling.insert(conn, true);
                    let len = 4 + u32::from_le_bytes(*head) as usize;
                    turn.ops.recv_into(conn, bytes, len);
                }
                None => *input = bytes,
            }
        }
        outs.flush(turn);
    }
}

fn a_large_value_goes_straight_into_its_buffer(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| framed(tell.clone()));
    let clients: Vec<_> = (0..3u64)
        .map(|seed| {
            let mut stream = rig.connect();
            std::thread::spawn(move || {
                let frames: Vec<Vec<u8>> = [5 << 20, 11, 0, 70_001, 3]
                    .map(|len| pattern(seed + len as u64, len))
                    .into();
                let wire: Vec<u8> = frames
                    .iter()
                    .flat_map(|frame| [&(frame.len() as u32).to_le_bytes(), &frame[..]].concat())
                    .collect();
                let mut reader = stream.try_clone().unwrap();
                let writing = std::thread::spawn(move || {
                    let (mut at, mut n) = (0, 1);
                    while at < wire.len() {
                        let end = wire.len().min(at + n);
                        stream.write_all(&wire[at..end]).unwrap();
                        (at, n) = (end, n * 3 % 262_139 + 1);
                    }
                });
                let mut got = vec![0; frames.iter().map(Vec::len).sum()];
                reader.read_exact(&mut got).unwrap();
                assert!(got == frames.concat());
                writing.join().unwrap();
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    rig.stop();
    let large = format!("filled {} cap {}", 4 + (5 << 20), 4 + (5 << 20));
    assert!(
        told.iter().filter(|line| *line == large).count() >= 1,
        "exact growth"
    );
}

fn a_fill_larger_than_a_gigabyte_costs_nothing(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| framed(tell.clone()));
    let mut stream = rig.connect();
    // Twelve such claims at once would not fit this machine if they were believed.
    let others: Vec<_> = (0..11).map(|_| rig.connect()).collect();
    for mut stream in others.iter().chain([&stream]) {
        stream
            .write_all(&(4u32 << 28).wrapping_sub(5).to_le_bytes())
            .unwrap();
        stream.write_all(b"a little").unwrap();
    }
    stream.write_all(&pattern(1, 3 << 20)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "closed PeerClosed");
    drop(others);
    rig.stop();
}

fn a_full_or_empty_wish_is_granted_at_once(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        move |turn: &mut Turn<'_, Mail>| {
            for event in std::mem::take(turn.events) {
                match event {
                    Event::Accepted { conn, .. } => {
                        turn.ops.send(conn, Vec::new());
                        turn.ops.recv_into(conn, vec![1, 2, 3], 3);
                    }
                    Event::Filled { buffer, .. } => tell.send(format!("{buffer:?}")).unwrap(),
                    Event::Sent { .. } => tell.send("sent".to_owned()).unwrap(),
                    _ => {}
                }
            }
        }
    });
    let _stream = rig.connect();
    let mut lines = [
        told.recv_timeout(TIMEOUT).unwrap(),
        told.recv_timeout(TIMEOUT).unwrap(),
    ];
    lines.sort();
    assert_eq!(lines, ["[1, 2, 3]", "sent"]);
    rig.stop();
}

fn more_data_than_buffers(choice: Choice) {
    let small = Config {
        buffer_bytes: 1024,
        buffer_count: 8,
        ..config(choice)
    };
    let rig = Rig::new(small, |_, _| {
        let mut outs = Outs::default();
        let mut turns = 0u32;
        move |turn: &mut Turn<'_, Mail>| {
            turns += 1;
            let began = Instant::now();
            while turns.is_multiple_of(50) && began.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            echo(turn, &mut outs);
        }
    });
    let clients: Vec<_> = (0..20u64)
        .map(|seed| {
            let mut stream = rig.connect();
            std::thread::spawn(move || {
                let sent = pattern(seed, 200_000);
                stream.write_all(&sent).unwrap();
                let mut got = vec![0; sent.len()];
                stream.read_exact(&mut got).unwrap();
                assert!(got == sent);
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    rig.stop();
}

fn pause_and_resume(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut outs = Outs::default();
        let mut paused = None;
        let mut first = true;
        move |turn: &mut Turn<'_, Mail>| {
            let mut pauses = Vec::new();
            for event in turn.events.iter() {
                if let Event::Data { conn, .. } = event {
                    assert_ne!(paused, Some(*conn), "data while paused");
                    if std::mem::take(&mut first) {
                        pauses.push(*conn);
                    }
                }
            }
            echo(turn, &mut outs);
            for conn in pauses {
                paused = Some(conn);
                turn.ops.pause_recv(conn);
                tell.send("paused".to_owned()).unwrap();
            }
            for mail in turn.mail.drain(..) {
                match mail {
                    Mail::Resume => {
                        turn.ops.resume_recv(paused.take().unwrap());
                    }
                    Mail::Number(..) => tell.send("turn".to_owned()).unwrap(),
                    _ => {}
                }
            }
        }
    });
    let mut stream = rig.connect();
    let sent = pattern(9, 1 << 20);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "paused");
    // Some turns go by, each of which would deliver data if there were no pause.
    let mut other = rig.connect();
    for _ in 0..50 {
        other.write_all(b"tick").unwrap();
        other.read_exact(&mut [0; 4]).unwrap();
        rig.handle.post(CoreId(0), Mail::Number(0, 0)).unwrap();
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "turn");
    }
    rig.handle.post(CoreId(0), Mail::Resume).unwrap();
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == sent);
    writing.join().unwrap();
    rig.stop();
}
