//! A log that Redis has written, read at the first start with a log of our own.
//!
//! ```text
//! appenddirname/appendfilename.manifest ─> base (RDB file, or requests) ─> files of requests, in order
//! dir/appendfilename (before Redis 7)   ─> requests, perhaps behind an RDB file
//!
//! values of an RDB file ──> effects: to the cores, and into our log        replay.rs
//! requests ──> a visit (executed.rs): one core has all slots and runs them; what they change is logged as ever
//! ```
//! Nothing expires meanwhile: a request was written when its keys were there, and Redis wrote their end as a request of its own. Of a
//! MULTI without its EXEC at the end nothing is run. Redis's files stay as they are. Until all is in our log its manifest says
//! that it is not: a start that was broken off begins anew.

use std::io;
use std::path::{Path, PathBuf};

use protocol::{Limits, Parsed, Parser};
use storage::log::FrameKind;
use storage::rdb::{Part, Splitter};
use storage::{Effect, Slot, Ttl, encode, write_value};

use super::manifest::{Place, named};
use super::replay::Spread;
use crate::config::split_words;
use crate::connection::{Connection, Request};
use crate::control::disk::Disk;
use crate::control::sealed::{Fault, Input};
use crate::node::Node;
use crate::table::{Row, Table};

/// Bytes that are read at once, and bytes of requests that travel together.
const PIECE_BYTES: usize = 256 << 10;
const BATCH_BYTES: usize = 256 << 10;
/// A manifest of more bytes is none.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Effects of an RDB file in one frame, bytes.
const FRAME_BYTES: usize = 256 << 10;

/// The files of Redis's log at a place, in their order; none when there is none.
///
/// # Errors
/// When its manifest cannot be read.
pub fn find(disk: &dyn Disk, place: &Place, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let path = place.path(&format!("{}.manifest", place.name));
    let mut file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let single = dir.join(&place.name);
            let is_there = disk.open(&single).and_then(|mut file| file.size());
            return Ok(is_there
                .into_iter()
                .filter(|size| *size > 0)
                .map(|_| single.clone())
                .collect());
        }
        Err(error) => return Err(named(&path, &error)),
    };
    let mut text = Vec::new();
    let size = file.size().map_err(|error| named(&path, &error))?;
    if size > MANIFEST_BYTES_MAX {
        return Err(named(&path, &"it is no manifest"));
    }
    while read_some(|into| file.read(into), &mut text).map_err(|error| named(&path, &error))? > 0 {}
    parse_manifest(&text, place).ok_or_else(|| named(&path, &"the manifest cannot be understood"))
}

/// `file NAME seq N type b|h|i`, a line each; h is history.
fn parse_manifest(text: &[u8], place: &Place) -> Option<Vec<PathBuf>> {
    let (mut base, mut increments) = (None, Vec::new());
    for line in text.split(|byte| *byte == b'\n') {
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let words = split_words(line)?;
        let (mut name, mut number, mut kind) = (None, None, None);
        for pair in words.chunks(2) {
            let value = core::str::from_utf8(pair.get(1)?).ok()?;
            match pair[0].to_ascii_lowercase().as_slice() {
                b"file" => name = Some(value.to_owned()).filter(|name| !name.contains('/')),
                b"seq" => number = value.parse::<u64>().ok(),
                b"type" => kind = value.bytes().next(),
                // What later versions may add.
                _ => {}
            }
        }
        let path = place.path(&name?);
        match kind? {
            b'b' if base.is_none() => base = Some(path),
            b'i' => increments.push((number?, path)),
            b'h' => {}
            _ => return None,
        }
    }
    increments.sort();
    let increments = increments.into_iter().map(|(_, path)| path);
    Some(base.into_iter().chain(increments).collect())
}

fn read_some<E>(
    read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    into: &mut Vec<u8>,
) -> Result<usize, E> {
    let before = into.len();
    into.resize(before + PIECE_BYTES, 0);
    let read = read(&mut into[before..]);
    into.truncate(before + read.as_ref().copied().unwrap_or(0));
    read
}

/// What reads Redis's files.
pub struct Import<'p> {
    node: &'static Node,
    spread: Spread<'p>,
    conn: Option<Box<Connection>>,
    requests: Vec<Request>,
    bytes: usize,
    /// Requests of a MULTI whose EXEC has not come.
    multi: Option<Vec<Request>>,
    frame: Vec<u8>,
    libraries: Vec<Vec<u8>>,
}

impl<'p> Import<'p> {
    /// Into the cores of a node, and into its log, which must be on.
    pub fn new(node: &'static Node, spread: Spread<'p>) -> Import<'p> {
        let conn = Connection::inside(node.users().default_user());
        Import {
            node,
            spread,
            conn: Some(conn),
            requests: Vec::new(),
            bytes: 0,
            multi: None,
            frame: Vec::new(),
            libraries: Vec::new(),
        }
    }

    /// Reads all files. `cuts`: the last one may end inside a request.
    ///
    /// # Errors
    /// What is wrong, with file and offset.
    pub fn run(&mut self, disk: &dyn Disk, files: &[PathBuf], cuts: bool) -> io::Result<()> {
        for (index, path) in files.iter().enumerate() {
            let is_last = index + 1 == files.len();
            let done = self.read(disk, path, cuts && is_last);
            done.map_err(|why| named(path, &why))?;
        }
        self.flush().map_err(io::Error::other)
    }

    fn read(&mut self, disk: &dyn Disk, path: &Path, cuts: bool) -> Result<(), String> {
        let text = |fault: Fault| fault.to_string();
        let mut file = Input::open(disk, path, &self.node.vault).map_err(text)?;
        let mut buf = Vec::new();
        while buf.len() < 5 && read_some(|into| file.read(into), &mut buf).map_err(text)? > 0 {}
        let begin = match buf.starts_with(b"REDIS") {
            true => self.read_values(&mut file, &mut buf)?,
            false => 0,
        };
        self.read_requests(&mut file, buf, begin, cuts)?;
        self.node.loading.add(file.size());
        if self.multi.take().is_some() {
            let why = "a MULTI at its end has no EXEC";
            if !cuts {
                return Err(why.to_owned());
            }
            self.warn(path, why);
        }
        Ok(())
    }

    fn warn(&self, path: &Path, why: &str) {
        self.node
            .log(|log| log.warning(&format!("{}: {why}: that is left out", path.display())));
    }

    /// The values of an RDB file at the beginning of `buf`, which holds afterwards what has been read behind it; its length.
    fn read_values(&mut self, file: &mut Input, buf: &mut Vec<u8>) -> Result<u64, String> {
        let config = self.node.config();
        let limits = crate::core::limits(&config);
        let mut splitter = Splitter::new(config.databases as usize, true);
        splitter.feed(buf);
        while !splitter.is_done() {
            let part = splitter.next_part().map_err(|damage| damage.to_string())?;
            match part {
                Some(Part::Key(raw)) => {
                    let (key, value) = raw.decode(&limits).map_err(|damage| damage.to_string())?;
                    let Some(value) = value else { continue };
                    let mut bytes = Vec::new();
                    write_value(&value, &mut bytes);
                    let ttl = raw.info.deadline_ms.map_or(Ttl::Clear, Ttl::At);
                    let effect = Effect::PutValue {
                        key: &key,
                        value: &bytes,
                        ttl,
                    };
                    let (at, owner) = (self.frame.len(), self.node.owner(Slot::of(&key)));
                    encode(raw.db, &effect, &mut self.frame);
                    self.spread.record(owner, &self.frame[at..])?;
                    if self.frame.len() >= FRAME_BYTES {
                        self.log_frame();
                    }
                }
                Some(Part::Function(code)) => self.libraries.push(code),
                Some(_) => {}
                None => {
                    buf.clear();
                    let read = read_some(|into| file.read(into), buf)
                        .map_err(|error| error.to_string())?;
                    if read == 0 {
                        splitter.finish().map_err(|damage| damage.to_string())?;
                    }
                    splitter.feed(buf);
                }
            }
        }
        self.log_frame();
        if !self.libraries.is_empty() {
            let codes = self.libraries.iter().map(Vec::as_slice);
            let payload = script::dump(codes);
            self.node
                .write_log
                .push(FrameKind::Libraries, 0, self.node.started_ms, &payload);
            self.spread.libraries(payload);
        }
        self.spread.finish()?;
        *buf = splitter.rest().to_vec();
        Ok(splitter.offset())
    }

    fn log_frame(&mut self) {
        if !self.frame.is_empty() {
            let log = &self.node.write_log;
            log.push(FrameKind::Effects, 0, self.node.started_ms, &self.frame);
            self.frame.clear();
            // Its bytes are with the kernel before more are read.
            let _written = log.gate(0);
        }
    }

    fn read_requests(
        &mut self,
        file: &mut Input,
        mut buf: Vec<u8>,
        begin: u64,
        cuts: bool,
    ) -> Result<(), String> {
        let limits = Limits::DEFAULT;
        let (mut parser, mut at, mut words) = (Parser::default(), 0, Vec::new());
        let mut before = begin;
        loop {
            let rest = &buf[at..];
            // Remarks, of the time for one, stand in lines of their own.
            let is_remark = rest.first() == Some(&b'#');
            let whole = match is_remark {
                true => rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map(|end| end + 1),
                false => {
                    words.clear();
                    match parser.parse(rest, &limits, &mut words) {
                        Parsed::Request { consumed } => Some(consumed),
                        Parsed::Incomplete { .. } => None,
                        _ => {
                            return Err(format!(
                                "at offset {}: this is no request",
                                before + at as u64
                            ));
                        }
                    }
                }
            };
            if let Some(bytes) = whole {
                if !is_remark {
                    let words: Vec<Vec<u8>> =
                        words.iter().map(|word| word.of(rest).to_vec()).collect();
                    let offset = before + at as u64;
                    self.take(words)
                        .map_err(|why| format!("at offset {offset}: {why}"))?;
                }
                at += bytes;
                continue;
            }
            before += at as u64;
            buf.drain(..at);
            at = 0;
            parser = Parser::default();
            if read_some(|into| file.read(into), &mut buf).map_err(|error| error.to_string())? == 0
            {
                break;
            }
        }
        match (buf.is_empty(), cuts) {
            (true, _) => Ok(()),
            (false, true) => {
                let bytes = buf.len();
                self.node.log(|log| {
                    log.warning(&format!("{bytes} bytes at the end of Redis's log, from offset {before} on, are no whole request: they are left out"));
                });
                Ok(())
            }
            (false, false) => Err(format!("it ends inside a request, at offset {before}")),
        }
    }

    /// Takes a request in.
    fn take(&mut self, words: Vec<Vec<u8>>) -> Result<(), String> {
        let Some(name) = words.first() else {
            return Ok(());
        };
        match name.to_ascii_lowercase().as_slice() {
            b"multi" => {
                self.multi = Some(Vec::new());
                return Ok(());
            }
            b"exec" => {
                let queued = self.multi.take().ok_or("an EXEC without its MULTI")?;
                queued.into_iter().for_each(|request| self.add(request));
                return self.send_if(BATCH_BYTES);
            }
            _ => {}
        }
        let row = find_row(self.table(), &words)
            .ok_or_else(|| format!("the command '{}' is unknown", String::from_utf8_lossy(name)))?;
        let request = Request::of_words(row, &words);
        match &mut self.multi {
            Some(queued) => queued.push(request),
            None => self.add(request),
        }
        self.send_if(BATCH_BYTES)
    }

    fn table(&self) -> &'static Table {
        self.node.table()
    }

    fn add(&mut self, request: Request) {
        self.bytes += request.bytes();
        self.requests.push(request);
    }

    fn send_if(&mut self, bytes_min: usize) -> Result<(), String> {
        if self.bytes < bytes_min || self.requests.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let Some(conn) = self.conn.take() else {
            return Err("the last requests have not come back".to_owned());
        };
        let requests = core::mem::take(&mut self.requests);
        let conn = self.spread.run(conn, requests)?;
        self.conn = Some(conn);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        self.send_if(0)
    }
}

fn find_row(table: &'static Table, words: &[Vec<u8>]) -> Option<&'static Row> {
    row_of(table, words.first()?, words.get(1).map(Vec::as_slice))
}

/// The row of a request, from its first two words.
pub fn row_of(table: &'static Table, name: &[u8], second: Option<&[u8]>) -> Option<&'static Row> {
    let row = table.find(name)?;
    let sub = second.and_then(|name| table.subcommand(row, name));
    Some(sub.unwrap_or(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_of_redis_are_understood() {
        let place = Place {
            folder: PathBuf::from("d"),
            name: "a".to_owned(),
        };
        let text = b"file a.2.incr.aof seq 2 type i\nfile a.1.base.rdb seq 1 type b\n#x\n\
                     file a.0.incr.aof seq 0 type h\nfile \"a b.1.incr.aof\" seq 1 type i startoffset 0\n";
        let found = parse_manifest(text, &place).unwrap();
        let expected = ["d/a.1.base.rdb", "d/a b.1.incr.aof", "d/a.2.incr.aof"];
        assert_eq!(found, expected.map(PathBuf::from));
        for bad in [
            "file ../x seq 1 type b",
            "file x seq",
            "file x seq 1 type q",
            "\"x",
        ] {
            assert_eq!(parse_manifest(bad.as_bytes(), &place), None, "{bad}");
        }
    }
}
