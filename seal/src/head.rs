//! The head of a sealed file: which master key it needs, and its own key, wrapped.
//!
//! # Format, version 1
//! ```text
//!  0  "MERISEAL"                           12  kind        u32   1 snapshot, 2 segment of the log
//!  8  version, 1  u32                      16  file id     16 random bytes
//! 32  name of the master key, padded with zeros to 32 bytes
//! 64  nonce, 12 random bytes
//! 76  data key, 32 random bytes, sealed by the master key with that nonce: 48 bytes
//!       (with it: bytes 0..64, and whatever of the file stands before the head)
//! 124 CRC-32C of bytes 0..124  u32         all little-endian
//! 128
//! ```
//! The checksum keeps nothing secret and nobody out: it tells damage from a wrong key. Nonces of a master key are random: after
//! 2^32 files under one of them the odds that two are alike are 2^-33.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::keys::{ID_BYTES_MAX, Id, KEY_BYTES, Key, Keys};
use crate::{Fault, TAG_BYTES};

/// Bytes of a head.
pub const HEAD_BYTES: usize = 128;
/// What it begins with.
pub const MAGIC: &[u8; 8] = b"MERISEAL";
/// Random bytes that a new file takes.
pub const RANDOM_BYTES: usize = FILE_ID_BYTES + NONCE_BYTES + KEY_BYTES;

const VERSION: u32 = 1;
const FILE_ID_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// Where things stand in a head.
const ID_AT: usize = 32;
const NONCE_AT: usize = ID_AT + ID_BYTES_MAX;
const KEY_AT: usize = NONCE_AT + NONCE_BYTES;
const SUM_AT: usize = KEY_AT + KEY_BYTES + TAG_BYTES;
/// A mark on the last piece of a frame, and on the last chunk of a stream.
const LAST: u32 = 1 << 31;

/// What a sealed file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Chunks: an RDB file.
    Snapshot,
    /// Frames.
    Segment,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::Snapshot => 1,
            Kind::Segment => 2,
        }
    }
}

/// The key of one file.
pub struct DataKey {
    key: LessSafeKey,
    file_id: [u8; FILE_ID_BYTES],
}

/// Makes the head of a new file, and its key. `binds` is what stands before the head in the file and must not be changed;
/// `random` are bytes that nobody can guess and that are never used again.
///
/// # Errors
/// [`Fault::TooLong`], never in practice.
pub fn make(
    master: &Key,
    kind: Kind,
    binds: &[u8],
    random: &[u8; RANDOM_BYTES],
) -> Result<([u8; HEAD_BYTES], DataKey), Fault> {
    let (file_id, rest) = random.split_at(FILE_ID_BYTES);
    let (nonce, secret) = rest.split_at(NONCE_BYTES);
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..16].copy_from_slice(&kind.number().to_le_bytes());
    head[16..ID_AT].copy_from_slice(file_id);
    head[ID_AT..NONCE_AT].copy_from_slice(master.id.as_padded());
    head[NONCE_AT..KEY_AT].copy_from_slice(nonce);
    let key = DataKey::new(secret, file_id).ok_or(Fault::TooLong)?;
    let mut wrapped = Zeroizing::new([0; KEY_BYTES]);
    wrapped.copy_from_slice(secret);
    let tag = wrapping(master)
        .ok_or(Fault::TooLong)?
        .seal_in_place_separate_tag(nonce_of(&head), bound(&head, binds), &mut wrapped[..])
        .map_err(|_| Fault::TooLong)?;
    head[KEY_AT..KEY_AT + KEY_BYTES].copy_from_slice(&wrapped[..]);
    head[KEY_AT + KEY_BYTES..SUM_AT].copy_from_slice(tag.as_ref());
    let sum = crc32c::crc32c(&head[..SUM_AT]);
    head[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
    Ok((head, key))
}

/// The name of the master key that a head needs.
///
/// # Errors
/// What is wrong with the head.
pub fn key_id(bytes: &[u8]) -> Result<Id, Fault> {
    Ok(checked(bytes)?.1)
}

/// Opens a head; `binds` as in [`make`].
///
/// # Errors
/// What is wrong with it, or with the keys.
pub fn open(keys: Option<&Keys>, kind: Kind, binds: &[u8], bytes: &[u8]) -> Result<DataKey, Fault> {
    let (head, id) = checked(bytes)?;
    if head[12..16] != kind.number().to_le_bytes() {
        return Err(Fault::Kind);
    }
    let master = keys.and_then(|keys| keys.find(&id));
    let master = master.ok_or(Fault::MissingKey(id))?;
    let mut wrapped = Zeroizing::new([0; KEY_BYTES + TAG_BYTES]);
    wrapped.copy_from_slice(&head[KEY_AT..SUM_AT]);
    let opened = wrapping(master).and_then(|key| {
        let secret = key.open_in_place(nonce_of(head), bound(head, binds), &mut wrapped[..]);
        DataKey::new(secret.ok()?, &head[16..ID_AT])
    });
    opened.ok_or(Fault::WrongKey(id))
}

/// A head that is not damaged, and the name of its key.
fn checked(bytes: &[u8]) -> Result<(&[u8; HEAD_BYTES], Id), Fault> {
    let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(Fault::Short)?;
    let u32_at =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..8] != *MAGIC || u32_at(SUM_AT) != crc32c::crc32c(&head[..SUM_AT]) {
        return Err(Fault::Head);
    }
    if u32_at(8) != VERSION {
        return Err(Fault::Version(u32_at(8)));
    }
    let id = head[ID_AT..].first_chunk().and_then(Id::padded);
    Ok((head, id.ok_or(Fault::Head)?))
}

fn wrapping(master: &Key) -> Option<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &master.secret[..]).ok()?;
    Some(LessSafeKey::new(key))
}

fn nonce_of(head: &[u8; HEAD_BYTES]) -> Nonce {
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&head[NONCE_AT..KEY_AT]);
    Nonce::assume_unique_for_key(nonce)
}

fn bound(head: &[u8; HEAD_BYTES], binds: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([&head[..NONCE_AT], binds].concat())
}

/// Where in its file a piece stands: no two pieces of a file have the same place.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Number of the chunk, or sequence of the frame.
    pub(crate) number: u64,
    /// Number of the piece in its frame; 0 in a stream.
    pub(crate) piece: u32,
    /// It is the last one.
    pub(crate) is_last: bool,
}

impl Place {
    fn bytes(self) -> Result<[u8; NONCE_BYTES], Fault> {
        if self.piece >= LAST {
            return Err(Fault::TooLong);
        }
        let mark = if self.is_last { LAST } else { 0 };
        let mut bytes = [0; NONCE_BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&(self.piece | mark).to_le_bytes());
        Ok(bytes)
    }
}

/// Most bytes that are bound to a piece beside its place and its file.
const ABOUT_BYTES_MAX: usize = 48;

/// What is bound to a piece.
struct Bound {
    bytes: [u8; FILE_ID_BYTES + NONCE_BYTES + ABOUT_BYTES_MAX],
    len: usize,
}

impl AsRef<[u8]> for Bound {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DataKey {
    fn new(secret: &[u8], file_id: &[u8]) -> Option<DataKey> {
        let key = UnboundKey::new(&AES_256_GCM, secret).ok()?;
        Some(DataKey {
            key: LessSafeKey::new(key),
            file_id: file_id.try_into().ok()?,
        })
    }

    fn bound(&self, place: [u8; NONCE_BYTES], about: &[u8]) -> Result<Aad<Bound>, Fault> {
        const PLACE_AT: usize = FILE_ID_BYTES;
        const ABOUT_AT: usize = FILE_ID_BYTES + NONCE_BYTES;
        let mut bytes = [0; FILE_ID_BYTES + NONCE_BYTES + ABOUT_BYTES_MAX];
        let len = ABOUT_AT + about.len();
        bytes[..PLACE_AT].copy_from_slice(&self.file_id);
        bytes[PLACE_AT..ABOUT_AT].copy_from_slice(&place);
        bytes
            .get_mut(ABOUT_AT..len)
            .ok_or(Fault::TooLong)?
            .copy_from_slice(about);
        Ok(Aad::from(Bound { bytes, len }))
    }

    /// Seals `out[from..]` in its place, and appends the tag.
    pub(crate) fn seal(
        &self,
        place: Place,
        about: &[u8],
        out: &mut Vec<u8>,
        from: usize,
    ) -> Result<(), Fault> {
        let place = place.bytes()?;
        let nonce = Nonce::assume_unique_for_key(place);
        let bound = self.bound(place, about)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, bound, &mut out[from..]);
        out.extend_from_slice(tag.map_err(|_| Fault::TooLong)?.as_ref());
        Ok(())
    }

    /// Opens a sealed piece in its place.
    pub(crate) fn open<'b>(
        &self,
        place: Place,
        about: &[u8],
        sealed: &'b mut [u8],
    ) -> Result<&'b mut [u8], Fault> {
        let place = place.bytes()?;
        let nonce = Nonce::assume_unique_for_key(place);
        let bound = self.bound(place, about)?;
        let opened = self.key.open_in_place(nonce, bound, sealed);
        opened.map_err(|_| Fault::Broken)
    }
}

impl core::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keys of these names; a name always stands for the same key.
    pub(crate) fn keys(names: &[&str]) -> Keys {
        let line = |name: &&str| {
            let byte = name
                .bytes()
                .fold(7_u8, |sum, byte| sum.wrapping_mul(31) ^ byte);
            format!("{name} {}\n", format!("{byte:02x}").repeat(KEY_BYTES))
        };
        let text: String = names.iter().map(line).collect();
        Keys::parse(text.as_bytes()).unwrap()
    }

    /// What stands for random bytes.
    pub(crate) fn random(seed: u8) -> [u8; RANDOM_BYTES] {
        core::array::from_fn(|at| seed.wrapping_add(at as u8))
    }

    #[test]
    fn the_head_is_golden_and_opens() {
        let keys = keys(&["2026-11", "old"]);
        let (head, _) = make(keys.current(), Kind::Snapshot, b"", &random(1)).unwrap();
        let mut golden = b"MERISEAL\x01\0\0\0\x01\0\0\0".to_vec();
        golden.extend(1..=16);
        golden.extend(b"2026-11");
        golden.resize(64, 0);
        golden.extend(17..=28);
        assert_eq!(head[..76], golden);
        let hex: String = head[76..]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, GOLDEN_WRAPPED);
        assert_eq!(key_id(&head).unwrap().to_string(), "2026-11");
        assert!(open(Some(&keys), Kind::Snapshot, b"", &head).is_ok());
        assert_eq!(
            Fault::Kind,
            open(Some(&keys), Kind::Segment, b"", &head).unwrap_err()
        );
    }

    /// The data key 29..=60 under the key of `2026-11` (another implementation gives the same bytes), and the checksum.
    const GOLDEN_WRAPPED: &str = "23abf82f40e02e10dc70bc195272f7f56d923b2061a1e78614fd800f38edcb5f\
                                  10867722777806da8da4f2d0d120d3b3b8c947f4";

    #[test]
    fn each_file_says_which_key_it_needs() {
        let (old, both, new) = (keys(&["old"]), keys(&["new", "old"]), keys(&["new"]));
        let (head, _) = make(old.current(), Kind::Segment, b"before", &random(3)).unwrap();
        let open = |keys, binds: &[u8]| open(keys, Kind::Segment, binds, &head).err();
        assert_eq!(open(Some(&both), b"before"), None);
        let id = Id::new(b"old").unwrap();
        assert_eq!(open(Some(&new), b"before"), Some(Fault::MissingKey(id)));
        assert_eq!(open(None, b"before"), Some(Fault::MissingKey(id)));
        assert_eq!(open(Some(&both), b"behind"), Some(Fault::WrongKey(id)));
        let text = format!("old {}", "00".repeat(32));
        let other = Keys::parse(text.as_bytes()).unwrap();
        assert_eq!(open(Some(&other), b"before"), Some(Fault::WrongKey(id)));
    }

    #[test]
    fn a_flipped_bit_is_found_and_so_is_a_forged_sum() {
        let keys = keys(&["k"]);
        let (head, _) = make(keys.current(), Kind::Snapshot, b"x", &random(9)).unwrap();
        for bit in 0..HEAD_BYTES * 8 {
            let mut head = head;
            head[bit / 8] ^= 1 << (bit % 8);
            let fault = open(Some(&keys), Kind::Snapshot, b"x", &head).unwrap_err();
            assert_eq!(fault, Fault::Head, "bit {bit}");
            let sum = crc32c::crc32c(&head[..SUM_AT]);
            head[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
            let opened = open(Some(&keys), Kind::Snapshot, b"x", &head);
            assert_eq!(opened.is_ok(), bit / 8 >= SUM_AT, "bit {bit}, forged");
        }
        for len in 0..HEAD_BYTES {
            let fault = open(Some(&keys), Kind::Snapshot, b"x", &head[..len]).unwrap_err();
            assert_eq!(fault, Fault::Short);
        }
    }
}
