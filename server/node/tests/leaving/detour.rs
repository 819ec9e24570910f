//! A way to a source on which the copy and the stream come from another server: a replica of it that was written to by hand.
//!
//! ```text
//!  node ── requests of any kind ──> Detour ──> source
//!       ── PSYNC ────────────────>        ──> twin   (a replica of the source: same history, same offsets; but keys of its own)
//! ```
//! What is written to the twin by hand is in no stream, so the node has it and the source has not: a difference that was planted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// How a request begins that asks for the stream.
const PSYNC: &[u8] = b"*3\r\n$5\r\nPSYNC\r\n";
/// What the source has been told before it: the twin has to know it, too.
const HELLO: &[u8] =
    b"*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n";

/// The port of a way from here to a source, by the ports of source and twin. It ends with the process.
pub(crate) fn detour(source: u16, twin: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // (A server that has ended: the node sees a connection that ends.)
            let _served = serve(stream, source, twin);
        }
    });
    port
}

fn serve(mut node: TcpStream, source: u16, twin: u16) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", source))?;
    // (A reply of several pieces would wait for an acknowledgement that is put off.)
    server.set_nodelay(true)?;
    node.set_nodelay(true)?;
    pump(server.try_clone()?, node.try_clone()?);
    std::thread::spawn(move || {
        let mut piece = [0; 64 << 10];
        while let Ok(read) = node.read(&mut piece) {
            let bytes = &piece[..read];
            let asks = bytes.windows(PSYNC.len()).position(|words| words == PSYNC);
            let (before, behind) = bytes.split_at(asks.unwrap_or(read));
            if read == 0 || server.write_all(before).is_err() {
                break;
            }
            if asks.is_some() {
                let Ok(other) = turn(&node, twin) else { break };
                server = other;
                if server.write_all(behind).is_err() {
                    break;
                }
            }
        }
        let _closed = server.shutdown(Shutdown::Both);
        let _closed = node.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// From now on it is the twin that is spoken to.
fn turn(node: &TcpStream, twin: u16) -> std::io::Result<TcpStream> {
    let mut other = TcpStream::connect(("127.0.0.1", twin))?;
    other.set_nodelay(true)?;
    other.write_all(HELLO)?;
    let mut answer = [0; 5];
    other.read_exact(&mut answer)?;
    assert_eq!(&answer, b"+OK\r\n");
    pump(other.try_clone()?, node.try_clone()?);
    Ok(other)
}

/// Replies, the other way, as they are.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut from, &mut to);
    });
}
