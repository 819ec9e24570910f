//! Hot path. One connection's TLS: received bytes become a client's bytes, and a turn's output becomes records.
//!
//! ```text
//!   Event::Data ─> open() ─> plain bytes ─> parser           (records wait in `incoming` until they are whole)
//!   outbound    ─> seal() ─> records     ─> one send a turn  (what the handshake has to say goes first)
//! ```
//! Memory: `incoming` holds at most a record or a handshake message that is not whole, and is given back when empty.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

/// Bytes that may wait for the rest of a record or handshake message. The largest that is allowed has 64 KiB.
const INCOMING_BYTES_MAX: usize = 128 << 10;
/// Memory for such bytes that is kept for the next ones.
const INCOMING_KEPT_BYTES_MAX: usize = 20 << 10;
/// Plain bytes of a record, at most.
const RECORD_BYTES_MAX: usize = 16 << 10;
/// Bytes that a record adds to them, at most: head, nonce, padding, tag.
const RECORD_HEAD_BYTES_MAX: usize = 64;
/// Room for what the handshake says at once; it tells when it needs more.
const HANDSHAKE_BYTES: usize = 4 << 10;

/// The connection cannot go on: what is still to be said of it (an alert) is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// See the module's head.
pub struct Session {
    tls: UnbufferedServerConnection,
    /// Received, not yet whole.
    incoming: Vec<u8>,
    /// Records that are to be sent before any of the client's replies.
    pending: Vec<u8>,
    /// The handshake is over.
    is_ready: bool,
    /// The client has said that it sends no more.
    is_ended: bool,
    /// We have said so, or cannot speak any more.
    has_said_goodbye: bool,
}

/// What is to be done while records are gone through.
enum Wish<'a> {
    /// Only what is there.
    Nothing,
    /// Seals these bytes.
    Seal(&'a [u8]),
    /// Says goodbye.
    Goodbye,
}

impl Session {
    /// The session of a client that has just connected.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: Arc<ServerConfig>) -> Result<Session, rustls::Error> {
        Ok(Session {
            tls: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            pending: Vec::new(),
            is_ready: false,
            is_ended: false,
            has_said_goodbye: false,
        })
    }

    /// Whether the handshake is over.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether the client has said that it sends no more.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether there is something to send beside replies.
    pub fn has_output(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the end of the connection has been told.
    pub fn has_said_goodbye(&self) -> bool {
        self.has_said_goodbye
    }

    /// Takes received bytes; the client's own are appended to `plain`.
    ///
    /// # Errors
    /// When the client does not speak TLS, or not ours.
    pub fn open(&mut self, received: &[u8], plain: &mut Vec<u8>) -> Result<(), Broken> {
        self.incoming.extend_from_slice(received);
        let mut out = core::mem::take(&mut self.pending);
        let done = self.go_on(Wish::Nothing, plain, &mut out);
        if done.is_err() {
            self.say_why(&mut out);
            self.has_said_goodbye = true;
        }
        self.pending = out;
        if self.incoming.is_empty() && self.incoming.capacity() > INCOMING_KEPT_BYTES_MAX {
            self.incoming = Vec::new();
        }
        if self.incoming.len() > INCOMING_BYTES_MAX {
            return Err(Broken);
        }
        done
    }

    /// Appends to `out` what is to be sent for these replies, and whatever else there is to send.
    ///
    /// # Errors
    /// When nothing can be sealed (any more).
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        out.append(&mut self.pending);
        if plain.is_empty() {
            return Ok(());
        }
        self.go_on(Wish::Seal(plain), &mut Vec::new(), out)
    }

    /// Appends the notice that nothing more will be sent.
    pub fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        if !core::mem::replace(&mut self.has_said_goodbye, true) && self.is_ready {
            // One that cannot be said is not missed: the connection is closed all the same.
            let _said = self.go_on(Wish::Goodbye, &mut Vec::new(), out);
        }
    }

    /// Appends the alert that tells why the connection is broken. The records are not looked at again.
    fn say_why(&mut self, out: &mut Vec<u8>) {
        while self.tls.wants_write() {
            let status = self.tls.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::EncodeTlsData(data)) = status.state else {
                return;
            };
            if encode(data, out).is_err() {
                return;
            }
        }
    }

    /// Goes through all whole records, then does what is wished if it can be done.
    fn go_on(
        &mut self,
        wish: Wish<'_>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let mut at = 0;
        let done = loop {
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut self.incoming[at..]);
            let state = match state {
                Ok(state) => state,
                Err(_) => break Err(Broken),
            };
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        plain.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(data) => {
                    let encoded = encode(data, out);
                    if encoded.is_err() {
                        break encoded;
                    }
                }
                // It is in `out`, which is sent.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.is_ended = true,
                ConnectionState::WriteTraffic(traffic) => {
                    at += discard;
                    self.is_ready = true;
                    break write(traffic, &wish, out);
                }
                ConnectionState::BlockedHandshake => {
                    at += discard;
                    break match wish {
                        Wish::Nothing => Ok(()),
                        Wish::Seal(_) | Wish::Goodbye => Err(Broken),
                    };
                }
                // Closed by both, or data before the handshake, which we never allow.
                _ => break Err(Broken),
            }
            at += discard;
        };
        self.incoming.drain(..at.min(self.incoming.len()));
        done
    }
}

fn encode<T>(mut data: EncodeTlsData<'_, T>, out: &mut Vec<u8>) -> Result<(), Broken> {
    append(out, HANDSHAKE_BYTES, |room| match data.encode(room) {
        Ok(len) => Ok(Ok(len)),
        Err(EncodeError::InsufficientSize(need)) => Ok(Err(need.required_size)),
        Err(_) => Err(Broken),
    })
}

fn write<T>(
    mut traffic: WriteTraffic<'_, T>,
    wish: &Wish<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Broken> {
    let told = |result| match result {
        Ok(len) => Ok(Ok(len)),
        Err(EncryptError::InsufficientSize(need)) => Ok(Err(need.required_size)),
        Err(_) => Err(Broken),
    };
    match wish {
        Wish::Nothing => Ok(()),
        Wish::Seal(plain) => {
            let records = plain.len() / RECORD_BYTES_MAX + 1;
            let room = plain.len() + records * RECORD_HEAD_BYTES_MAX;
            append(out, room, |room| told(traffic.encrypt(plain, room)))
        }
        Wish::Goodbye => append(out, RECORD_HEAD_BYTES_MAX, |room| {
            told(traffic.queue_close_notify(room))
        }),
    }
}

/// Appends what `fill` writes into room of so many bytes; it is called again if it says that it needs more.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<Result<usize, usize>, Broken>,
) -> Result<(), Broken> {
    let start = out.len();
    out.resize(start + room, 0);
    let filled = match fill(&mut out[start..]) {
        Ok(Err(needed)) => {
            out.resize(start + needed, 0);
            fill(&mut out[start..])
        }
        filled => filled,
    };
    let len = match filled {
        Ok(Ok(len)) => Ok(len),
        Ok(Err(_)) | Err(_) => Err(Broken),
    };
    out.truncate(start + len.unwrap_or(0));
    len.map(drop)
}
