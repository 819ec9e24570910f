//! Encryption at rest: bytes of files sealed and opened again. No files here, no clock, no random source.
//!
//! ```text
//! master keys (by id)           keys.rs        the first one seals, all of them open
//!      │ wraps
//!      v
//! data key of one file          head.rs        in the file's head, with the id of the master key
//!      │ seals
//!      ├── chunks of 64 KiB     stream.rs      a snapshot, written once from its beginning to its end
//!      └── frames               frame.rs       a segment of the log, appended to and synced at any time
//! ```
//! Everything is AES-256-GCM. A nonce is the place of what is sealed (number of the chunk, or sequence of the frame and piece
//! of it, and a mark on the last one), under a key that only one file has: so no nonce comes twice, and a piece that was moved,
//! repeated or left out does not open (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). What this
//! keeps from whom, and what it does not, is in ADR 13.
//!
//! Arithmetic: a snapshot grows by 16 bytes in 65,536 and 128 at its head; a frame by 16 bytes, a segment by 128.

mod frame;
mod head;
mod keys;
mod stream;

pub use frame::{open_frame, seal_frame, sealed_frame_bytes};
pub use head::{DataKey, HEAD_BYTES, Kind, MAGIC, RANDOM_BYTES, key_id, make, open};
pub use keys::{Id, Key, KeyError, Keys};
pub use stream::{CHUNK_BYTES, Opener, SEALED_CHUNK_BYTES, Sealer, plain_bytes};

/// Bytes that a seal adds to what it seals.
pub const TAG_BYTES: usize = 16;

/// Why sealed bytes were not opened, or bytes not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end before the head does.
    Short,
    /// The head is damaged.
    Head,
    /// The head has another version of the format.
    Version(u32),
    /// It is a sealed file of the other kind.
    Kind,
    /// The key that it needs is not there.
    MissingKey(Id),
    /// A key of that name is there, and does not open it.
    WrongKey(Id),
    /// A chunk or a frame does not open: it was changed, or is not where it was written.
    Broken,
    /// The file ends behind a whole chunk that is not its last one.
    CutOff,
    /// More than a file can hold was to be sealed.
    TooLong,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Short => f.write_str("it ends inside its sealed head"),
            Fault::Head => f.write_str("its sealed head is damaged"),
            Fault::Version(version) => {
                write!(f, "it is sealed in the unknown version {version}")
            }
            Fault::Kind => f.write_str("it is a sealed file of another kind"),
            Fault::MissingKey(id) => {
                write!(f, "it is sealed with the key '{id}', which is not there")
            }
            Fault::WrongKey(id) => write!(
                f,
                "the key '{id}' does not open it: this is another key of that name, or its head was tampered with"
            ),
            Fault::Broken => f.write_str("the seal is broken"),
            Fault::CutOff => f.write_str("the file is cut off: its last chunk is missing"),
            Fault::TooLong => f.write_str("more was to be sealed than one file can hold"),
        }
    }
}

impl core::error::Error for Fault {}
