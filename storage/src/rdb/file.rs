//! A whole RDB file: what stands around the values, written and read.
//!
//! ```text
//! "REDIS" version, four digits  (Valkey from version 80 on: "VALKEY" and three)
//! 250 name value                      about the file                  245 code            a library of functions
//! 254 database                        of what follows                 247 module what...  passed over
//! 251 keys, keys with a deadline      of the database: a hint         244 slot, keys, with a deadline: a hint
//! [252 unix ms i64 LE | 253 unix s i32 LE] [248 idle s | 249 uses u8] type key value
//! 255 CRC-64 of all before it, u64 LE, 0 for none (from version 5 on)
//! ```
//! [`Splitter`] reads: bytes come in pieces, parts go out when all of their bytes are there. It finds where a value ends and
//! leaves it as it is: whoever keeps it decodes it ([`Raw::value`]), so that many threads can. It believes no length: what it keeps
//! are bytes that came.

use core::fmt;
use std::borrow::Cow;
use std::ops::Range;

use crate::Limits;
use crate::rdb::encode::{Style, kind_of, write_body, write_bytes, write_int, write_length};
use crate::rdb::measure::{Found, MODULE, Measure, Step, program};
use crate::rdb::reader::Reader;
use crate::rdb::{VERSION_MAX, VERSION_OF_VALKEY, crc64, decode, kind};
use crate::value::OwnedValue;
use crate::view::Value;

const EOF: u8 = 255;
const SELECT: u8 = 254;
const EXPIRES_S: u8 = 253;
const EXPIRES_MS: u8 = 252;
const RESIZE: u8 = 251;
const AUX: u8 = 250;
const FREQUENCY: u8 = 249;
const IDLE: u8 = 248;
const MODULE_AUX: u8 = 247;
const FUNCTION_EARLY: u8 = 246;
const FUNCTION: u8 = 245;
const SLOT_INFO: u8 = 244;

/// Bytes of the magic word with its version.
const MAGIC_BYTES: usize = 9;
/// From this version on a checksum follows the end.
const SUMMED_FROM: u16 = 5;

// ---- writing --------------------------------------------------------------------------------

/// Appends the file's first bytes.
pub fn write_magic(version: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("REDIS{version:04}").as_bytes());
}

/// Appends a field about the file; one that spells an integer as such, as Redis does.
pub fn write_aux(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(AUX);
    write_bytes(name.as_bytes(), out);
    match value.parse::<i64>() {
        Ok(n) => write_int(n, out),
        Err(_) => write_bytes(value.as_bytes(), out),
    }
}

/// Appends a library of functions.
pub fn write_function(code: &[u8], out: &mut Vec<u8>) {
    out.push(FUNCTION);
    write_bytes(code, out);
}

/// Appends the database of what follows.
pub fn write_select(db: u8, out: &mut Vec<u8>) {
    out.push(SELECT);
    write_length(u64::from(db), out);
}

/// Appends how many keys the database has, and how many of them a deadline.
pub fn write_resize(keys: u64, expires: u64, out: &mut Vec<u8>) {
    out.push(RESIZE);
    write_length(keys, out);
    write_length(expires, out);
}

/// What is said of a key beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyInfo {
    /// Absolute deadline, unix ms.
    pub deadline_ms: Option<u64>,
    /// Seconds since its last use.
    pub idle_s: Option<u64>,
    /// How often it is used, as OBJECT FREQ tells.
    pub frequency: Option<u8>,
}

/// Appends what comes before a value: what is said of the key, the type, the key.
pub fn write_head(key: &[u8], info: KeyInfo, kind: u8, style: Style, out: &mut Vec<u8>) {
    if let Some(at_ms) = info.deadline_ms {
        out.push(EXPIRES_MS);
        out.extend_from_slice(&at_ms.to_le_bytes());
    }
    if let Some(idle_s) = info.idle_s {
        out.push(IDLE);
        write_length(idle_s, out);
    }
    if let Some(frequency) = info.frequency {
        out.extend_from_slice(&[FREQUENCY, frequency]);
    }
    out.push(kind);
    super::write_string(key, style, out);
}

/// Appends a key with its value.
pub fn write_key(key: &[u8], info: KeyInfo, value: Value<'_>, style: Style, out: &mut Vec<u8>) {
    write_head(key, info, kind_of(value, style), style, out);
    write_body(value, style, out);
}

/// Appends the end, but for its checksum, which covers it.
pub fn write_end(out: &mut Vec<u8>) {
    out.push(EOF);
}

// ---- reading --------------------------------------------------------------------------------

/// Why a file is not read: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Bytes before the part that is wrong.
    pub offset: u64,
    /// What is wrong.
    pub what: Wrong,
}

/// See [`Damage`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they say")]
pub enum Wrong {
    NoMagic,
    Version(u64),
    UnknownType(u8),
    EarlyFunction,
    ModuleValue(String),
    Database(u64),
    Deadline,
    Structure,
    Value,
    Truncated,
    Checksum { stored: u64, computed: u64 },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset)?;
        match &self.what {
            Wrong::NoMagic => f.write_str("this is not an RDB file"),
            Wrong::Version(version) => write!(f, "RDB version {version} is not supported"),
            Wrong::UnknownType(kind) => write!(f, "unknown type or opcode {kind}"),
            Wrong::EarlyFunction => {
                f.write_str("a function in the format of a release candidate of Redis 7.0")
            }
            Wrong::ModuleValue(name) => {
                write!(f, "a value of the module type '{name}', which is not known")
            }
            Wrong::Database(db) => write!(f, "database {db} is out of range"),
            Wrong::Deadline => f.write_str("a deadline before 1970"),
            Wrong::Structure => f.write_str("a length or string of unknown form"),
            Wrong::Value => f.write_str("a value that is not what its type says"),
            Wrong::Truncated => f.write_str("the file ends here, in the middle"),
            Wrong::Checksum { stored, computed } => write!(
                f,
                "wrong checksum: the file says {stored:016x}, its bytes give {computed:016x}"
            ),
        }
    }
}

impl core::error::Error for Damage {}

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; kinds are documented"
)]
pub enum Part<'a> {
    /// The file's version.
    Version(u16),
    /// A field about the file.
    Aux { name: Vec<u8>, value: Vec<u8> },
    /// So many keys, and keys with a deadline, are to be expected of a database.
    Resize { db: u8, keys: u64, expires: u64 },
    /// The code of a library of functions.
    Function(Vec<u8>),
    /// A module's own data, which was passed over.
    ModuleAux(String),
    /// A key with its value.
    Key(Raw<'a>),
    /// The end; no more is looked at.
    End,
}

/// A key with its value as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Its database.
    pub db: u8,
    /// What is said of the key.
    pub info: KeyInfo,
    /// Bytes of the file before the type.
    pub offset: u64,
    /// Whether the file is one of Valkey, which has types of its own.
    pub valkey: bool,
    /// Type, key and value.
    pub bytes: &'a [u8],
}

impl<'a> Raw<'a> {
    /// The key.
    ///
    /// # Errors
    /// [`Damage`]
    pub fn key(&self) -> Result<Cow<'a, [u8]>, Damage> {
        let mut reader = Reader::new(self.bytes.get(1..).unwrap_or_default());
        reader.string().map_err(|_| self.damage(Wrong::Structure))
    }

    /// The key and its value, if that is a string: nothing is copied.
    ///
    /// # Errors
    /// [`Damage`]
    #[allow(clippy::type_complexity, reason = "a key and what it holds")]
    pub fn text(&self) -> Result<Option<(Cow<'a, [u8]>, Cow<'a, [u8]>)>, Damage> {
        let Some((&kind::STRING, body)) = self.bytes.split_first() else {
            return Ok(None);
        };
        let mut reader = Reader::new(body);
        match (reader.string(), reader.string(), reader.rest()) {
            (Ok(key), Ok(text), []) => Ok(Some((key, text))),
            _ => Err(self.damage(Wrong::Value)),
        }
    }

    /// The key and its value; no value for an empty collection, which old servers could write and no key may hold.
    ///
    /// # Errors
    /// [`Damage`]
    #[allow(clippy::type_complexity, reason = "a key and what it holds")]
    pub fn decode(&self, limits: &Limits) -> Result<(Cow<'a, [u8]>, Option<OwnedValue>), Damage> {
        let wrong = |_| self.damage(Wrong::Value);
        let mut reader = Reader::new(self.bytes);
        let kind = reader.byte().map_err(wrong)?;
        let key = reader.string().map_err(wrong)?;
        let value = if self.valkey && kind == kind::HASH_OF_VALKEY {
            decode::read_hash_of_valkey(&mut reader, limits).map(Some)
        } else {
            decode::read_any(kind, &mut reader, limits)
        };
        let value = value.map_err(wrong)?;
        if reader.rest().is_empty() {
            Ok((key, value))
        } else {
            Err(self.damage(Wrong::Value))
        }
    }

    fn damage(&self, what: Wrong) -> Damage {
        Damage {
            offset: self.offset,
            what,
        }
    }
}

/// What is being passed over.
#[derive(Debug)]
enum State {
    Magic,
    /// Between two parts.
    Opcode,
    /// An opcode has been read; this follows it.
    Inside(u8, Measure),
    /// The end has been read; the checksum is to come.
    Sum,
    Done,
}

/// See the module's head.
#[derive(Debug)]
pub struct Splitter {
    /// Only the first `end` bytes of it are of the file: what comes is read into the rest.
    buffer: Vec<u8>,
    end: usize,
    /// Bytes of the buffer that are done with.
    at: usize,
    /// Bytes that are needed before it makes sense to look again, from `at` on.
    needs: usize,
    /// Bytes of the file before the buffer.
    before: u64,
    /// Of the file up to `summed` bytes of the buffer.
    crc: u64,
    summed: usize,
    checks: bool,
    state: State,
    version: u16,
    dbs: usize,
    db: u8,
    info: KeyInfo,
    /// It ended with a checksum, which was right.
    is_summed: bool,
}

impl Splitter {
    /// For a server of so many databases. `checks`: the checksum at the end must be right, if there is one.
    pub fn new(dbs: usize, checks: bool) -> Splitter {
        Splitter {
            buffer: Vec::new(),
            end: 0,
            at: 0,
            needs: MAGIC_BYTES,
            before: 0,
            crc: 0,
            summed: 0,
            checks,
            state: State::Magic,
            version: 0,
            dbs,
            db: 0,
            info: KeyInfo::default(),
            is_summed: false,
        }
    }

    /// More bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.came(bytes.len());
    }

    /// Where at least so many bytes more of the file can be put; [`Splitter::came`] then says how many were.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        if self.at > 0 && (self.at >= self.end / 2) {
            self.sum(self.at);
            self.before += self.at as u64;
            self.summed -= self.at;
            self.buffer.copy_within(self.at..self.end, 0);
            (self.end, self.at) = (self.end - self.at, 0);
        }
        if self.buffer.len() < self.end + len {
            self.buffer.resize(self.end + len, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes have been put where [`Splitter::room`] said.
    pub fn came(&mut self, len: usize) {
        self.end = (self.end + len).min(self.buffer.len());
    }

    /// Bytes of the file that are done with.
    pub fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    /// Whether the end has been read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the file has ended with a checksum that was looked at: one of zeros is none.
    pub fn is_summed(&self) -> bool {
        self.is_summed
    }

    /// What came behind the end.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    /// Bytes behind [`Splitter::offset`] that the next part takes at least.
    pub fn needs(&self) -> u64 {
        self.needs as u64
    }

    /// The file has ended.
    ///
    /// # Errors
    /// [`Wrong::Truncated`], unless the end has been read.
    pub fn finish(&self) -> Result<(), Damage> {
        match self.state {
            State::Done => Ok(()),
            State::Magic => Err(self.damage(Wrong::NoMagic)),
            _ => Err(Damage {
                offset: self.before + self.end as u64,
                what: Wrong::Truncated,
            }),
        }
    }

    /// The next part; None when more bytes are needed, or after the end.
    ///
    /// # Errors
    /// [`Damage`]; nothing more can be read then.
    pub fn next_part(&mut self) -> Result<Option<Part<'_>>, Damage> {
        loop {
            if self.end - self.at < self.needs {
                return Ok(None);
            }
            let (opcode, len) = match &mut self.state {
                State::Magic => return Ok(Some(Part::Version(self.magic()?))),
                State::Opcode => {
                    self.begin()?;
                    continue;
                }
                State::Inside(opcode, measure) => {
                    match measure.go_on(&self.buffer[self.at + 1..self.end]) {
                        Found::Needs(len) => {
                            self.needs = len.saturating_add(1);
                            continue;
                        }
                        Found::Damaged => return Err(self.damage(Wrong::Structure)),
                        Found::Done => (*opcode, 1 + measure.len()),
                    }
                }
                State::Sum => {
                    self.check_sum()?;
                    return Ok(Some(Part::End));
                }
                State::Done => return Ok(None),
            };
            let range = self.at..self.at + len;
            let found = self.part(opcode, &range)?;
            self.at = range.end;
            (self.state, self.needs) = (State::Opcode, 1);
            match found {
                Shape::Nothing => {}
                Shape::Part(part) => return Ok(Some(part)),
                Shape::Key(db, info) => {
                    return Ok(Some(Part::Key(Raw {
                        db,
                        info,
                        offset: self.before + range.start as u64,
                        valkey: self.is_valkey(),
                        bytes: &self.buffer[range],
                    })));
                }
            }
        }
    }

    fn damage(&self, what: Wrong) -> Damage {
        Damage {
            offset: self.offset(),
            what,
        }
    }

    /// Takes the buffer up to `end` into the checksum.
    fn sum(&mut self, end: usize) {
        if self.checks {
            self.crc = crc64(self.crc, &self.buffer[self.summed.min(end)..end]);
        }
        self.summed = end;
    }

    fn magic(&mut self) -> Result<u16, Damage> {
        let magic = &self.buffer[self.at..self.at + MAGIC_BYTES];
        let digits = magic
            .strip_prefix(b"REDIS")
            .or_else(|| magic.strip_prefix(b"VALKEY"));
        let version = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
            .map(|digits| digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')));
        let version = version.ok_or_else(|| self.damage(Wrong::NoMagic))?;
        match u16::try_from(version) {
            Ok(version @ (1..=VERSION_MAX | VERSION_OF_VALKEY)) => self.version = version,
            _ => return Err(self.damage(Wrong::Version(version))),
        }
        self.at += MAGIC_BYTES;
        (self.state, self.needs) = (State::Opcode, 1);
        Ok(self.version)
    }

    /// Looks at the opcode or type that is there.
    fn begin(&mut self) -> Result<(), Damage> {
        use Step::{Bytes, Length, Text};
        let opcode = self.buffer[self.at];
        let steps: &'static [Step] = match opcode {
            EOF => {
                self.at += 1;
                self.sum(self.at);
                (self.state, self.needs) = if self.version >= SUMMED_FROM {
                    (State::Sum, 8)
                } else {
                    (State::Sum, 0)
                };
                return Ok(());
            }
            SELECT | IDLE => &[Length],
            EXPIRES_S => &[Bytes(4)],
            EXPIRES_MS => &[Bytes(8)],
            RESIZE => &[Length, Length],
            AUX => &[Text, Text],
            FREQUENCY => &[Bytes(1)],
            MODULE_AUX => MODULE,
            FUNCTION_EARLY => return Err(self.damage(Wrong::EarlyFunction)),
            FUNCTION => &[Text],
            SLOT_INFO => &[Length, Length, Length],
            kind::MODULE | kind::MODULE_EARLY => &[Text, Length],
            kind => {
                let steps = program(kind, self.is_valkey());
                let steps = steps.ok_or_else(|| self.damage(Wrong::UnknownType(kind)))?;
                let measure = Measure::behind_text(steps);
                (self.state, self.needs) = (State::Inside(kind, measure), 2);
                return Ok(());
            }
        };
        (self.state, self.needs) = (State::Inside(opcode, Measure::new(steps)), 2);
        Ok(())
    }

    fn is_valkey(&self) -> bool {
        self.version == VERSION_OF_VALKEY
    }

    /// What stands in this range of the buffer, of which all is there.
    fn part(&mut self, opcode: u8, range: &Range<usize>) -> Result<Shape, Damage> {
        let mut reader = Reader::new(&self.buffer[range.start + 1..range.end]);
        // The bytes have been measured: what fails here is a compressed string that is none.
        let wrong = |_| Damage {
            offset: self.before + range.start as u64,
            what: Wrong::Structure,
        };
        let text = |reader: &mut Reader<'_>| reader.string().map(Cow::into_owned).map_err(wrong);
        let length = |reader: &mut Reader<'_>| reader.length().map_err(wrong);
        let part = match opcode {
            SELECT => {
                let db = length(&mut reader)?;
                match u8::try_from(db) {
                    Ok(db) if usize::from(db) < self.dbs => self.db = db,
                    _ => return Err(self.damage(Wrong::Database(db))),
                }
                return Ok(Shape::Nothing);
            }
            EXPIRES_S | EXPIRES_MS => {
                let at_ms = if opcode == EXPIRES_S {
                    i64::from(i32::from_le_bytes(reader.array().map_err(wrong)?)) * 1000
                } else {
                    i64::from_le_bytes(reader.array().map_err(wrong)?)
                };
                // One at the beginning of time has passed as much as one right after it.
                let at_ms = u64::try_from(at_ms).map_err(|_| self.damage(Wrong::Deadline))?;
                self.info.deadline_ms = Some(at_ms.max(1));
                return Ok(Shape::Nothing);
            }
            IDLE => {
                self.info.idle_s = Some(length(&mut reader)?);
                return Ok(Shape::Nothing);
            }
            FREQUENCY => {
                self.info.frequency = Some(reader.byte().map_err(wrong)?);
                return Ok(Shape::Nothing);
            }
            SLOT_INFO => return Ok(Shape::Nothing),
            RESIZE => Part::Resize {
                db: self.db,
                keys: length(&mut reader)?,
                expires: length(&mut reader)?,
            },
            AUX => Part::Aux {
                name: text(&mut reader)?,
                value: text(&mut reader)?,
            },
            FUNCTION => Part::Function(text(&mut reader)?),
            MODULE_AUX => Part::ModuleAux(module_name(length(&mut reader)?)),
            kind::MODULE => {
                text(&mut reader)?;
                let name = module_name(length(&mut reader)?);
                return Err(self.damage(Wrong::ModuleValue(name)));
            }
            kind::MODULE_EARLY => return Err(self.damage(Wrong::UnknownType(opcode))),
            _ => return Ok(Shape::Key(self.db, core::mem::take(&mut self.info))),
        };
        Ok(Shape::Part(part))
    }

    fn check_sum(&mut self) -> Result<(), Damage> {
        if self.version >= SUMMED_FROM {
            let stored = self.buffer[self.at..self.end].first_chunk::<8>();
            let stored = stored.map_or(0, |bytes| u64::from_le_bytes(*bytes));
            if self.checks && stored != 0 && stored != self.crc {
                return Err(self.damage(Wrong::Checksum {
                    stored,
                    computed: self.crc,
                }));
            }
            self.is_summed = self.checks && stored != 0;
            self.at += 8;
        }
        (self.state, self.needs) = (State::Done, 0);
        Ok(())
    }
}

/// What a part is, without what borrows from the buffer.
enum Shape {
    Nothing,
    Part(Part<'static>),
    Key(u8, KeyInfo),
}

/// The name in a module type's number: nine characters of six bits above ten bits of version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |n: u32| char::from(LETTERS[(id >> (10 + 6 * n)) as usize & 63]);
    (0..9).rev().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All parts of a file that comes in pieces of so many bytes, as texts.
    fn parts(file: &[u8], piece: usize) -> Result<Vec<String>, Damage> {
        let mut splitter = Splitter::new(16, true);
        let mut found = Vec::new();
        let mut pieces = file.chunks(piece.max(1));
        while !splitter.is_done() {
            match splitter.next_part()? {
                Some(Part::Key(raw)) => {
                    let (key, value) = raw.decode(&Limits::default())?;
                    assert_eq!(raw.key()?, key);
                    if let Some((its, text)) = raw.text()? {
                        assert_eq!(its, key);
                        let own = match &value {
                            Some(OwnedValue::Int(n)) => n.to_string().into_bytes(),
                            Some(OwnedValue::String(own)) => own.clone(),
                            _ => panic!("a string"),
                        };
                        assert_eq!(own, *text);
                    }
                    let (key, info) = (key.escape_ascii(), raw.info);
                    found.push(format!("{} {key} {value:?} {info:?}", raw.db));
                }
                Some(part) => found.push(format!("{part:?}")),
                None => match pieces.next() {
                    Some(piece) => splitter.feed(piece),
                    None => splitter.finish()?,
                },
            }
        }
        Ok(found)
    }

    fn small_file(version: u16, sum: bool) -> Vec<u8> {
        let style = Style {
            version,
            compress: true,
            drops_field_deadlines: false,
        };
        let mut out = Vec::new();
        write_magic(version, &mut out);
        write_aux("redis-ver", "7.2.4", &mut out);
        write_aux("redis-bits", "64", &mut out);
        write_function(b"#!lua name=x\n", &mut out);
        write_select(3, &mut out);
        write_resize(2, 1, &mut out);
        let info = KeyInfo {
            deadline_ms: Some(123_456),
            idle_s: Some(7),
            frequency: None,
        };
        let text = |bytes| Value::String(crate::Text::Bytes(bytes));
        write_key(b"k", info, text(&[b'x'; 500]), style, &mut out);
        let info = KeyInfo {
            frequency: Some(9),
            ..KeyInfo::default()
        };
        write_key(b"12", info, text(b"y"), style, &mut out);
        write_end(&mut out);
        let crc = if sum { crc64(0, &out) } else { 0 };
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    #[test]
    fn a_file_in_pieces_of_any_size_is_read_as_it_was_written() {
        for (version, sum) in [(9, true), (10, true), (11, false)] {
            let file = small_file(version, sum);
            let whole = parts(&file, file.len()).unwrap();
            assert_eq!(whole.len(), 8, "{whole:?}");
            assert!(whole[5].starts_with("3 k Some(String("));
            assert!(whole[5].ends_with(
                "KeyInfo { deadline_ms: Some(123456), idle_s: Some(7), frequency: None }"
            ));
            assert!(
                whole[6].starts_with("3 12 Some(String([121]))"),
                "{}",
                whole[6]
            );
            for piece in 1..60 {
                assert_eq!(parts(&file, piece).as_ref(), Ok(&whole));
            }
        }
    }

    #[test]
    fn every_lost_byte_and_flipped_bit_is_reported() {
        let file = small_file(10, true);
        for cut in 0..file.len() {
            let damage = parts(&file[..cut], 7).unwrap_err();
            assert!(damage.offset <= cut as u64);
        }
        for bit in 0..(file.len() - 8) * 8 {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            assert!(parts(&file, 64).is_err(), "bit {bit}");
        }
        let text = parts(&file[..60], 7).unwrap_err().to_string();
        assert_eq!(text, "at byte 60: the file ends here, in the middle");
    }

    #[test]
    fn what_older_and_other_servers_write() {
        let file = |version: &str, body: &[u8]| [version.as_bytes(), body].concat();
        let table: [(&str, &[u8], &str); 9] = [
            // Before the checksum; seconds; a list of linked elements; a score as text.
            (
                "REDIS0003",
                b"\xfe\x01\xfd\x10\0\0\0\x01\x01k\x02\x01a\xc0\x05\xff",
                "1 k Some(List(",
            ),
            (
                "REDIS0004",
                b"\x03\x01k\x01\x01a\x031.5\xff",
                "0 k Some(Zset(",
            ),
            (
                "REDIS0006",
                b"\x09\x01k\x0a\x01\x01f\x01\x00v\xff\xff\0\0\0\0\0\0\0\0",
                "damage",
            ),
            (
                "REDIS0006",
                b"\x09\x01k\x07\x01\x01f\x01\x00v\xff\xff\0\0\0\0\0\0\0\0",
                "0 k Some(Hash",
            ),
            // An empty list is no key.
            (
                "REDIS0006",
                b"\x01\x01k\x00\xff\0\0\0\0\0\0\0\0",
                "0 k None",
            ),
            (
                "REDIS0011",
                b"\xf7\x81\x35\xe3\x7c\x2a\x9b\x6f\x04\x01\x02\x02\x05\x01x\0\xff\0\0\0\0\0\0\0\0",
                "ModuleAux",
            ),
            (
                "REDIS0011",
                b"\x07\x01k\x81\x35\xe3\x7c\x2a\x9b\x6f\x04\x01\x00\xff",
                "damage",
            ),
            (
                "REDIS0012",
                b"\xf4\x01\x01\x00\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0",
                "0 k Some(String([118]))",
            ),
            (
                "VALKEY080",
                b"\x16\x01k\x01\x01f\x01v\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0",
                "0 k Some(Hash",
            ),
        ];
        for (version, body, expected) in table {
            let found = parts(&file(version, body), 3);
            let text = match &found {
                Ok(found) => found[1].clone(),
                Err(_) => "damage".to_owned(),
            };
            assert!(text.starts_with(expected), "{version}: {found:?}");
        }
        for (body, what) in [
            (&b"REDIS0099\xff"[..], "RDB version 99 is not supported"),
            (b"PK0000000", "this is not an RDB file"),
            (b"REDIS0011\xfe\x40\xff", "database 255 is out of range"),
            (
                b"REDIS0011\xf6\x01",
                "a function in the format of a release candidate of Redis 7.0",
            ),
            (b"REDIS0011\x40\x01", "unknown type or opcode 64"),
        ] {
            let text = parts(body, 100).unwrap_err().to_string();
            assert!(text.ends_with(what), "{text}");
        }
    }
}
