//! The kinds of abuse. Each is bounded in connections, bytes and time, and tells what the server
//! said to it; whether the server lives is seen by others.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError};
use crate::rng::Rng;
use crate::text;

/// One kind: server, seed, how long.
pub(super) type Abuse = fn(&str, u64, Duration) -> Result<String, ClientError>;

/// All kinds, the first of which is none.
pub(super) const ABUSES: &[(&str, Abuse)] = &[
    ("none", none),
    ("garbage bytes", garbage),
    ("half a command, then silence", half),
    ("a bulk of 10 GB announced", huge_bulk),
    ("2147483647 words announced", many_words_announced),
    ("commands of a million words", million_words),
    ("an inline command without end", giant_inline),
    ("replies that are never read", never_reads),
    ("1000 connects and disconnects", connects),
];

/// Connections of one kind.
const CONNECTIONS: usize = 50;
const SILENT_CONNECTIONS: usize = 200;
const CONNECTS: usize = 1000;
/// Bytes of garbage per connection, and of an inline command.
const GARBAGE_BYTES: usize = 64 * 1024;
const INLINE_BYTES: usize = 4 * 1024 * 1024;
/// Words of a large command.
const WORDS: usize = 1_000_000;
/// What is asked for and not read: 256 MB in all.
const BIG_VALUE_BYTES: usize = 1024 * 1024;
const BIG_GETS: usize = 256;
/// How long an abuser waits for a reply.
const PATIENCE: Duration = Duration::from_millis(500);
const LONG_PATIENCE: Duration = Duration::from_secs(10);

fn none(_: &str, _: u64, duration: Duration) -> Result<String, ClientError> {
    thread::sleep(duration);
    Ok("-".to_owned())
}

/// What the server says within the time, and whether it closes.
fn listen(client: &mut Client, patience: Duration) -> String {
    if let Err(error) = client.set_reply_timeout(patience) {
        return error.to_string();
    }
    match client.receive() {
        Ok(answer) => {
            let closes = client.is_closed(patience.min(PATIENCE));
            format!(
                "{}{}",
                text::answer_line(&answer),
                if closes { ", then closes" } else { "" }
            )
        }
        Err(ClientError::Hung) => "waits".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Sends bytes in pieces; a server that closes meanwhile has said enough.
fn pour(client: &mut Client, bytes: &[u8]) -> Result<(), ClientError> {
    for piece in bytes.chunks(GARBAGE_BYTES) {
        client.send_bytes(piece)?;
    }
    Ok(())
}

fn garbage(server: &str, seed: u64, duration: Duration) -> Result<String, ClientError> {
    let mut rng = Rng::new(seed);
    let end = Instant::now() + duration;
    let (mut rounds, mut said) = (0, String::new());
    while Instant::now() < end && rounds < CONNECTIONS {
        rounds += 1;
        let bytes: Vec<u8> = (0..GARBAGE_BYTES / 8)
            .flat_map(|_| rng.next().to_le_bytes())
            .collect();
        // Some of it looks like the beginning of a request.
        let begin: &[u8] = match rng.below(4) {
            0 => b"*3\r\n$3\r\nSET\r\n$",
            1 => b"*-5\r\n",
            2 => b"*1\r\n:5\r\n",
            _ => b"",
        };
        let mut client = Client::connect(server)?;
        said = match pour(&mut client, &[begin, &bytes].concat()) {
            Ok(()) => listen(&mut client, PATIENCE / 5),
            Err(error) => error.to_string(),
        };
    }
    Ok(format!(
        "{rounds} connections; the last: {}",
        said.chars().take(80).collect::<String>()
    ))
}

fn half(server: &str, _: u64, duration: Duration) -> Result<String, ClientError> {
    let mut open = Vec::new();
    for _ in 0..SILENT_CONNECTIONS {
        let mut client = Client::connect(server)?;
        client.send_bytes(b"*3\r\n$3\r\nSET\r\n$5\r\nab")?;
        open.push(client);
    }
    thread::sleep(duration);
    Ok(format!(
        "{} connections; the last: {}",
        open.len(),
        open.last_mut()
            .map(|last| listen(last, PATIENCE))
            .unwrap_or_default()
    ))
}

fn huge_bulk(server: &str, _: u64, _: Duration) -> Result<String, ClientError> {
    let mut said = String::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(server)?;
        let announced = [
            b"*2\r\n$3\r\nGET\r\n$10737418240\r\n".as_slice(),
            &[b'x'; GARBAGE_BYTES],
        ]
        .concat();
        said = match client.send_bytes(&announced) {
            Ok(()) => listen(&mut client, PATIENCE),
            Err(error) => error.to_string(),
        };
        if said == "waits" {
            break;
        }
    }
    Ok(said)
}

fn many_words_announced(server: &str, _: u64, duration: Duration) -> Result<String, ClientError> {
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(server)?;
        client.send_bytes(b"*2147483647\r\n$4\r\nPING\r\n$1\r\nx\r\n")?;
        open.push(client);
    }
    thread::sleep(duration);
    Ok(open
        .last_mut()
        .map(|last| listen(last, PATIENCE))
        .unwrap_or_default())
}

fn million_words(server: &str, _: u64, _: Duration) -> Result<String, ClientError> {
    let mut said = Vec::new();
    for name in ["DEL", "GET", "MGET"] {
        let mut words = vec![name.as_bytes().to_vec()];
        words.resize_with(WORDS, || b"nokey".to_vec());
        let mut request = Vec::new();
        protocol::request::encode(&words, &mut request);
        let mut client = Client::connect(server)?;
        let sent = pour(&mut client, &request);
        let heard = match sent {
            Ok(()) => listen(&mut client, LONG_PATIENCE),
            Err(error) => error.to_string(),
        };
        said.push(format!(
            "{name}: {}",
            heard.chars().take(60).collect::<String>()
        ));
    }
    Ok(said.join("; "))
}

fn giant_inline(server: &str, _: u64, _: Duration) -> Result<String, ClientError> {
    let mut said = String::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(server)?;
        said = match pour(&mut client, &vec![b'a'; INLINE_BYTES]) {
            Ok(()) => listen(&mut client, PATIENCE),
            Err(error) => error.to_string(),
        };
        if said == "waits" {
            break;
        }
    }
    Ok(said)
}

/// A server may hold the replies back, or close; it may not make others wait.
fn never_reads(server: &str, _: u64, duration: Duration) -> Result<String, ClientError> {
    let mut writer = Client::connect(server)?;
    writer.call(&[b"SET", b"badinput:big", &vec![b'x'; BIG_VALUE_BYTES]])?;
    let mut deaf = Client::connect(server)?;
    let mut requests = Vec::new();
    for _ in 0..BIG_GETS {
        protocol::request::encode(&["GET", "badinput:big"], &mut requests);
    }
    let said = match deaf.send_bytes(&requests) {
        Ok(()) => "takes all requests".to_owned(),
        Err(error) => error.to_string(),
    };
    thread::sleep(duration);
    drop(deaf);
    writer.call(&[b"DEL", b"badinput:big"])?;
    Ok(said)
}

fn connects(server: &str, _: u64, _: Duration) -> Result<String, ClientError> {
    for round in 0..CONNECTS {
        let mut client = Client::connect(server)?;
        match round % 3 {
            0 => {}
            // Closed with a reply on its way.
            1 => client.send_bytes(b"PING\r\nPING\r\n")?,
            _ => client.send_bytes(b"*2\r\n$3\r\nGE")?,
        }
    }
    Ok(format!("{CONNECTS} connections taken"))
}
