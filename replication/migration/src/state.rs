//! What a migration must remember when the process ends: a small text file.
//!
//! ```text
//!  meridian-migration 1
//!  phase verify
//!  began 1700000000000
//!  source 10.0.0.5 6379 plain
//!  shard <slots, hand, or keys:patterns> <id in the cluster, or ->   of several sources: of each, in their order
//!  by scan                                   the source bars PSYNC: it is followed by its keys and their events
//!  announce 10.0.0.9 6379
//!  intent flip <history> <offset> <min-replicas-to-write that the source had, or ->
//!  old-side written                          the old Redis is written to, and never a replica
//!  side <number>                             what follows is of this one of several sources
//!  fence <history> <offset>                  only once this node decides
//!  bar <user> <its commands before>          users of the old Redis that may not write there
//!  written <sequence> new|begun              what is behind this sequence of the log is written there; it has been begun
//!  needs-copy <why>                          what is missing there cannot be written any more
//!  entered attach 1700000000000              when each phase was entered, unix ms
//!  pause flip 41000                          each change of who decides: microseconds without service
//!  sum 0123456789abcdef                      CRC-64 of all lines before it
//! ```
//! It is replaced as a whole before each step that the other side can see, so a start at any instant reads one state or the next. No secret
//! is in it: passwords are those of the configuration. What does not read back is refused with its line, and nothing is guessed.

use core::fmt::Write as _;

use storage::rdb::crc64;

use crate::{Phase, Shard, Side, Slots};

/// Bytes of a state: some KiB as a rule. The most that 256 servers, each with eight users that are barred, can take.
pub const STATE_BYTES_MAX: usize = 16 << 20;
/// Phases and pauses that are remembered; the oldest go first.
const REMEMBERED_MAX: usize = 200;
/// Digits of a history's name.
const HISTORY_DIGITS: usize = 40;
const HEAD: &str = "meridian-migration 1";
/// What precedes the patterns of a server's keys.
const KEYS: &str = "keys:";

/// Patterns of one server's keys, and their bytes.
pub const PATTERNS_MAX: usize = 64;
/// See [`PATTERNS_MAX`].
pub const PATTERNS_BYTES_MAX: usize = 4096;

/// A place in a history of writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Forty hexadecimal digits (a replication id).
    pub history: String,
    /// Bytes of its stream.
    pub offset: u64,
}

impl Place {
    /// This place of this history.
    pub fn new(history: &str, offset: u64) -> Place {
        Place {
            history: history.to_owned(),
            offset,
        }
    }
}

/// What the old Redis is once this node decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldSide {
    /// This node's replica.
    #[default]
    Replica,
    /// A server that this node writes to as a client does.
    Written,
}

impl OldSide {
    /// Its name in orders and files.
    pub fn name(self) -> &'static str {
        match self {
            OldSide::Replica => "replica",
            OldSide::Written => "written",
        }
    }

    /// The one of this name.
    pub fn of(name: &str) -> Option<OldSide> {
        let sides = [OldSide::Replica, OldSide::Written];
        sides.into_iter().find(|side| side.name() == name)
    }
}

/// Users that are barred at most, and bytes that describe what one may do: they have room in a state.
pub const BARRED_USERS_MAX: usize = 8;
/// See [`BARRED_USERS_MAX`].
pub const BARRED_COMMANDS_BYTES_MAX: usize = 4096;

/// A user of the old Redis that may not write there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bar {
    /// Its name.
    pub user: String,
    /// What it may call, as `ACL GETUSER` has told before it was barred; empty before that was asked.
    pub commands: String,
}

impl Bar {
    /// A user that is to be barred; None when no user has such a name.
    pub fn new(user: &str) -> Option<Bar> {
        is_host(user).then(|| Bar {
            user: user.to_owned(),
            commands: String::new(),
        })
    }

    /// Whether what it may call can stand in a state.
    pub fn has_room(commands: &str) -> bool {
        let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        commands.len() <= BARRED_COMMANDS_BYTES_MAX && commands.bytes().all(is_plain)
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address; no blanks.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// It is spoken to by TLS.
    pub tls: bool,
}

/// What is being changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    /// Nothing.
    #[default]
    None,
    /// This node is to decide: the source's history, of which so much was executed here when it began.
    Flip {
        /// Where it began.
        at: Place,
        /// The fence is `min-replicas-to-write` (before Redis 6.2): its value before.
        min_replicas: Option<u64>,
    },
    /// The old Redis is to decide.
    Back,
}

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// When it was started, unix ms.
    pub began_ms: u64,
    /// The source's servers; of one there is one.
    pub sources: Vec<Server>,
    /// What each of the sources is, where there are several, or the one is a cluster; a shard's number is its place.
    pub shards: Vec<Shard>,
    /// The source is followed by scan.
    pub by_scan: bool,
    /// Where the old Redis finds this node.
    pub announce: Option<Server>,
    /// What is being changed.
    pub intent: Intent,
    /// What the old Redis is once this node decides.
    pub old_side: OldSide,
    /// Its major and minor version, as it said at the last flip that was to make it a replica.
    pub old_version: Option<(u64, u64)>,
    /// How it stands with each of the sources, by number: see [`State::side`].
    pub sides: Vec<Side>,
    /// Phases with the times at which they were entered, unix ms.
    pub entered: Vec<(Phase, u64)>,
    /// Changes of who decides (`flip`, `back`, `undone`) with their pauses, us.
    pub pauses: Vec<(String, u64)>,
}

/// Why a state was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// It is that of another version, or no state at all.
    Head,
    /// This line does not mean anything.
    Line(usize),
    /// It has another number of shards than of sources.
    Shards,
    /// Its sum is wrong, or missing.
    Sum,
}

impl core::fmt::Display for StateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StateError::Head => {
                f.write_str("it is not a migration's state, or that of another version")
            }
            StateError::Line(line) => write!(f, "line {line} cannot be read"),
            StateError::Shards => f.write_str("it has not one shard for each source"),
            StateError::Sum => f.write_str("its checksum is wrong: it is damaged"),
        }
    }
}

impl core::error::Error for StateError {}

impl State {
    /// Another phase is entered.
    pub fn enter(&mut self, phase: Phase, now_ms: u64) {
        self.phase = phase;
        self.entered.push((phase, now_ms));
        let over = self.entered.len().saturating_sub(REMEMBERED_MAX);
        self.entered.drain(..over);
    }

    /// Who decides has changed, or was to change, and nobody was served for so long.
    pub fn note_pause(&mut self, what: &str, pause_us: u64) {
        self.pauses.push((what.to_owned(), pause_us));
        let over = self.pauses.len().saturating_sub(REMEMBERED_MAX);
        self.pauses.drain(..over);
    }

    /// Its text.
    pub fn encode(&self) -> String {
        let mut out = format!(
            "{HEAD}\nphase {}\nbegan {}\n",
            self.phase.name(),
            self.began_ms
        );
        for source in &self.sources {
            let tls = if source.tls { "tls" } else { "plain" };
            let _ = writeln!(out, "source {} {} {tls}", source.host, source.port);
        }
        for shard in &self.shards {
            let Shard {
                slots,
                patterns,
                id,
            } = shard;
            let keys = match slots {
                Some(slots) => slots.to_string(),
                None if patterns.is_empty() => "hand".to_owned(),
                None => format!("{KEYS}{}", patterns.join(",")),
            };
            let id = if id.is_empty() { "-" } else { id };
            let _ = writeln!(out, "shard {keys} {id}");
        }
        if self.by_scan {
            out.push_str("by scan\n");
        }
        if let Some(us) = &self.announce {
            let _ = writeln!(out, "announce {} {}", us.host, us.port);
        }
        match &self.intent {
            Intent::None => {}
            Intent::Flip { at, min_replicas } => {
                let before = min_replicas.map_or("-".to_owned(), |count| count.to_string());
                let _ = writeln!(out, "intent flip {} {} {before}", at.history, at.offset);
            }
            Intent::Back => out.push_str("intent back\n"),
        }
        if self.old_side == OldSide::Written {
            out.push_str("old-side written\n");
        }
        if let Some((major, minor)) = self.old_version {
            let _ = writeln!(out, "old-version {major} {minor}");
        }
        for (number, side) in self.sides.iter().enumerate() {
            if !self.shards.is_empty() {
                let _ = writeln!(out, "side {number}");
            }
            side.encode(&mut out);
        }
        for (phase, at_ms) in &self.entered {
            let _ = writeln!(out, "entered {} {at_ms}", phase.name());
        }
        for (what, us) in &self.pauses {
            let _ = writeln!(out, "pause {what} {us}");
        }
        let sum = crc64(0, out.as_bytes());
        let _ = writeln!(out, "sum {sum:016x}");
        out
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`StateError`]
    pub fn decode(bytes: &[u8]) -> Result<State, StateError> {
        let text = std::str::from_utf8(bytes).map_err(|_| StateError::Head)?;
        if !text.starts_with(&format!("{HEAD}\n")) {
            return Err(StateError::Head);
        }
        let (body, sum) = text
            .strip_suffix('\n')
            .and_then(|text| text.rsplit_once("\nsum "))
            .ok_or(StateError::Sum)?;
        let body = &text[..=body.len()];
        let sum = (sum.len() == 16).then(|| u64::from_str_radix(sum, 16));
        if sum != Some(Ok(crc64(0, body.as_bytes()))) {
            return Err(StateError::Sum);
        }
        let mut state = State::default();
        let mut side = 0;
        for (at, line) in body.lines().enumerate().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            let taken = state.take(&words, &mut side);
            taken.ok_or(StateError::Line(at + 1))?;
        }
        let is_whole = state.shards.is_empty() || state.shards.len() == state.sources.len();
        is_whole.then_some(state).ok_or(StateError::Shards)
    }

    /// `side`: the number of the server that lines of one are about.
    fn take(&mut self, words: &[&str], side: &mut usize) -> Option<()> {
        match words {
            ["phase", name] => self.phase = Phase::of(name)?,
            ["began", at_ms] => self.began_ms = at_ms.parse().ok()?,
            ["source", host, port, tls] => self.sources.push(Server {
                host: (*host).to_owned(),
                port: port.parse().ok()?,
                tls: match *tls {
                    "tls" => true,
                    "plain" => false,
                    _ => return None,
                },
            }),
            ["shard", keys, id] => {
                let id = id.trim_start_matches('-').to_owned();
                self.shards.push(match keys.strip_prefix(KEYS) {
                    Some(patterns) => Shard {
                        patterns: patterns_of(patterns)?,
                        slots: None,
                        id,
                    },
                    None if *keys == "hand" => Shard {
                        id,
                        ..Shard::default()
                    },
                    None => Shard {
                        slots: Some(Slots::of(keys)?),
                        patterns: Vec::new(),
                        id,
                    },
                });
            }
            ["side", number] => {
                *side = number.parse().ok().filter(|at| *at < self.sources.len())?;
            }
            ["by", "scan"] => self.by_scan = true,
            ["announce", host, port] => {
                self.announce = Some(Server {
                    host: (*host).to_owned(),
                    port: port.parse().ok()?,
                    tls: false,
                });
            }
            ["intent", "flip", history, offset, before] => {
                self.intent = Intent::Flip {
                    at: place(history, offset)?,
                    min_replicas: match *before {
                        "-" => None,
                        count => Some(count.parse().ok()?),
                    },
                };
            }
            ["intent", "back"] => self.intent = Intent::Back,
            ["old-side", name] => self.old_side = OldSide::of(name)?,
            ["old-version", major, minor] => {
                self.old_version = Some((major.parse().ok()?, minor.parse().ok()?));
            }
            ["entered", name, at_ms] => {
                self.entered.push((Phase::of(name)?, at_ms.parse().ok()?));
            }
            ["pause", what, us] => self.pauses.push(((*what).to_owned(), us.parse().ok()?)),
            of_side => return self.side_mut(*side).take(of_side),
        }
        Some(())
    }
}

/// Patterns of keys, apart by commas: see [`Shard::patterns`]. None when one of them cannot stand in a state, or there are too many.
pub fn patterns_of(text: &str) -> Option<Vec<String>> {
    let patterns: Vec<String> = text.split(',').map(str::to_owned).collect();
    let are_good = text.len() <= PATTERNS_BYTES_MAX && patterns.len() <= PATTERNS_MAX;
    (are_good && patterns.iter().all(|pattern| is_word(pattern))).then_some(patterns)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(crate) fn place(history: &str, offset: &str) -> Option<Place> {
    let is_name = history.len() == HISTORY_DIGITS && history.bytes().all(|b| b.is_ascii_hexdigit());
    is_name.then_some(())?;
    Some(Place::new(history, offset.parse().ok()?))
}

/// Whether a host can stand in a state: something, and no blanks or control characters.
pub fn is_host(host: &str) -> bool {
    host.len() <= 255 && is_word(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = "0123456789abcdef0123456789abcdef01234567";

    fn full() -> State {
        let server = |tls| Server {
            host: "10.0.0.5".to_owned(),
            port: 6379,
            tls,
        };
        let mut state = State {
            began_ms: 5,
            sources: vec![server(true)],
            announce: Some(server(false)),
            intent: Intent::Flip {
                at: Place::new(HISTORY, 7),
                min_replicas: Some(0),
            },
            ..State::default()
        };
        state.side_mut(0).fence = Some(Place::new(HISTORY, u64::MAX));
        state.enter(Phase::Attach, 5);
        state.enter(Phase::Verify, 9);
        state.note_pause("flip", 41_000);
        state
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut states = vec![State::default(), full()];
        let mut other = full();
        other.intent = Intent::Back;
        other.old_side = OldSide::Written;
        other.by_scan = true;
        other.old_version = Some((6, 0));
        let side = other.side_mut(0);
        side.bars = vec![Bar::new("app").unwrap(), Bar::new("b").unwrap()];
        side.bars[0].commands = "+@all -@dangerous".to_owned();
        (side.written_from, side.is_begun) = (u64::MAX, true);
        side.needs_copy = Some("the queue  is full".to_owned());
        let side = side.clone();
        states.push(other);
        let mut sharded = full();
        let slots = |text| Some(Slots::of(text).unwrap());
        sharded.sources.push(full().sources[0].clone());
        sharded.shards = vec![
            Shard {
                slots: slots("0-8191"),
                id: HISTORY.to_owned(),
                ..Shard::default()
            },
            Shard::default(),
        ];
        states.push(sharded.clone());
        // Each with a side of its own, and with patterns of its keys.
        *sharded.side_mut(1) = side;
        sharded.shards[1].patterns = patterns_of("a:*,b?[x-z],*").unwrap();
        assert!(sharded.is_ours(0) && sharded.is_ours(1));
        states.push(sharded.clone());
        sharded.side_mut(1).fence = None;
        assert_eq!(
            (sharded.next_of(true), sharded.next_of(false)),
            (Some(0), Some(1))
        );
        sharded.shards.pop();
        assert_eq!(
            State::decode(sharded.encode().as_bytes()),
            Err(StateError::Shards)
        );
        for state in states {
            assert_eq!(State::decode(state.encode().as_bytes()), Ok(state));
        }
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let text = full().encode().into_bytes();
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            assert!(State::decode(&damaged).is_err(), "byte {at}");
            assert!(State::decode(&text[..at]).is_err(), "cut at {at}");
        }
        let with_sum = |body: &str| format!("{body}sum {:016x}\n", crc64(0, body.as_bytes()));
        for (body, fault) in [
            ("meridian-migration 2\n", StateError::Head),
            ("meridian-migration 1\nphase flip\n", StateError::Line(2)),
            (
                "meridian-migration 1\nphase idle\nfence x 1\n",
                StateError::Line(3),
            ),
            (
                "meridian-migration 1\nsource h 70000 tls\n",
                StateError::Line(2),
            ),
        ] {
            assert_eq!(
                State::decode(with_sum(body).as_bytes()),
                Err(fault),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        assert!(Bar::new("a b").is_none() && OldSide::of("x").is_none());
        let mut state = full();
        for n in 0..10_000 {
            state.enter(Phase::Front, n);
            state.note_pause("undone", n);
        }
        assert_eq!(state.entered.len(), REMEMBERED_MAX);
        state.old_side = OldSide::Written;
        let bar = Bar {
            user: "u".repeat(255),
            commands: "+".repeat(BARRED_COMMANDS_BYTES_MAX),
        };
        assert!(Bar::has_room(&bar.commands) && !Bar::has_room("\n"));
        let side = Side {
            bars: vec![bar; BARRED_USERS_MAX],
            needs_copy: Some("\u{1f980}\n".repeat(10_000)),
            ..Side::default()
        };
        let shard = Shard {
            patterns: patterns_of(&"p".repeat(PATTERNS_BYTES_MAX)).unwrap(),
            ..Shard::default()
        };
        let shards = 256;
        state.sources = vec![state.sources[0].clone(); shards];
        (state.shards, state.sides) = (vec![shard; shards], vec![side; shards]);
        for bad in [
            "",
            "a,,b",
            "a b",
            "a\nb",
            &"a,".repeat(PATTERNS_MAX),
            &"a".repeat(PATTERNS_BYTES_MAX + 1),
        ] {
            assert_eq!(patterns_of(bad), None, "{bad}");
        }
        let text = state.encode();
        assert!(text.len() < STATE_BYTES_MAX);
        assert!(State::decode(text.as_bytes()).is_ok());
        assert!(is_host("::1") && !is_host("") && !is_host("a b") && !is_host("a\nb"));
    }
}
