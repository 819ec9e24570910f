//! A bench for handlers: runs requests on a shard, compares replies, and holds the law of effects.

use protocol::args::flatten;
use protocol::{Args, Group, Reply, Resp};
use storage::{Event, Key, Limits, Rng, Shard, Side, Slot, decode};

use crate::{Block, Read, Refused, Run, Settings, Wait, Write};

/// The time at which a bench begins, unix ms.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// Two shards: requests run on one, the effects they record are applied to the other.
pub(crate) struct Bench {
    pub(crate) shard: Shard,
    mirror: Shard,
    pub(crate) db: u8,
    pub(crate) resp: Resp,
    pub(crate) settings: Settings,
    rng: Rng,
    /// Changes up to the end of the last request: deadlines may pass between two.
    changes: u64,
    /// What the last request would wait for.
    pub(crate) wait: Option<Wait>,
    /// The keyspace events of the last request, all classes.
    events: Vec<Event>,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let shard = || Shard::new(16, (0..16384).map(Slot), Limits::default(), START_MS);
        let mut bench = Bench {
            shard: shard(),
            mirror: shard(),
            db: 0,
            resp: Resp::V2,
            settings: Settings::default(),
            rng: Rng::new(1),
            changes: 0,
            wait: None,
            events: Vec::new(),
        };
        bench.shard.effects().set_recording(true);
        bench.shard.set_events(u16::MAX);
        bench
    }

    /// With other limits of the compact forms.
    pub(crate) fn with_limits(limits: Limits) -> Bench {
        let mut bench = Bench::new();
        bench.shard.set_limits(limits.clone());
        bench.mirror.set_limits(limits);
        bench
    }

    /// Puts a list at a key, without a request: for families that meet other types.
    pub(crate) fn list(&mut self, key: &Key<'_>) {
        for shard in [&mut self.shard, &mut self.mirror] {
            if let Ok(mut list) = shard.edit().edit_list_or_new(key) {
                list.push(Side::Right, b"x");
            }
            shard.effects().take();
            shard.take_events();
        }
    }

    /// Lets time pass.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let now = self.shard.now_ms() + ms;
        self.shard.set_now(now);
        self.mirror.set_now(now);
    }

    /// Runs one request; the reply as it goes on the wire.
    pub(crate) fn raw(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let owned: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let (mut buf, mut found) = (Vec::new(), Vec::new());
        flatten(&owned, &mut buf, &mut found);
        let args = Args::new(&buf, &found);
        let mut name = String::from_utf8_lossy(words[0]).to_lowercase();
        let mut command = crate::all()
            .find(|c| c.spec.name == name)
            .unwrap_or_else(|| panic!("no {name}"));
        let mut skip = 0;
        if matches!(command.run, Run::Container) {
            name = format!(
                "{name}|{}",
                String::from_utf8_lossy(words[1]).to_lowercase()
            );
            command = crate::all()
                .find(|c| c.spec.name == name)
                .unwrap_or_else(|| panic!("no {name}"));
            skip = 1;
        }
        assert!(
            command.spec.arity.accepts(words.len()),
            "the gate refuses {words:?}"
        );
        if command.spec.group == Group::Hash {
            // As the node does before it runs a command on a hash.
            self.shard.expire_fields(&Key::new(self.db, words[1]));
        }
        let args = args.skip(skip);
        let mut out = Vec::new();
        let done = match command.run {
            Run::Read(run) => run(
                &mut Read {
                    shard: &self.shard,
                    db: self.db,
                    reply: Reply::new(&mut out, self.resp),
                    rng: &mut self.rng,
                    settings: &self.settings,
                    first: None,
                },
                args,
            ),
            Run::Write(run) | Run::Block(Block { run, .. }) => {
                let mut cx = Write {
                    edit: self.shard.edit(),
                    db: self.db,
                    reply: Reply::new(&mut out, self.resp),
                    rng: &mut self.rng,
                    settings: &self.settings,
                    first: None,
                    wait: None,
                };
                let done = run(&mut cx, args);
                self.wait = cx.wait;
                done
            }
            Run::Container => unreachable!(),
        };
        if self.shard.has_met_expired() {
            self.shard.expire_met();
        }
        self.events = self.shard.take_events();
        let effects = self.shard.effects().take();
        if let Err(Refused(refusal)) = done {
            // Only a passed deadline may be noted by a handler that refuses.
            assert!(out.is_empty(), "a refusal beside a reply in {name}");
            Reply::new(&mut out, self.resp).error(&refusal);
        } else if self.shard.changes() == self.changes {
            assert!(
                effects.is_empty(),
                "{name} recorded effects but changed nothing"
            );
        }
        self.changes = self.shard.changes();
        let mut rest = &effects[..];
        while !rest.is_empty() {
            let (db, effect, after) = decode(rest).unwrap();
            self.mirror.apply(db, &effect).unwrap();
            rest = after;
        }
        assert!(
            self.shard.digest_all() == self.mirror.digest_all(),
            "effects of {name} give other data"
        );
        out
    }

    /// Runs a request given as words separated by blanks (`""` is an empty word); the reply as text,
    /// `\r\n` shown as one blank.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line
            .split(' ')
            .map(|w| if w == "\"\"" { &b""[..] } else { w.as_bytes() })
            .collect();
        let reply = self.raw(&words);
        String::from_utf8_lossy(&reply)
            .trim_end()
            .replace("\r\n", " ")
    }

    /// The events of the last request: `lpush key`, with `@1` behind one of database 1.
    pub(crate) fn events(&self) -> String {
        let tell = |event: &Event| {
            let key = String::from_utf8_lossy(&event.key);
            let db = match event.db {
                0 => String::new(),
                db => format!("@{db}"),
            };
            format!("{} {key}{db}", event.name)
        };
        let events: Vec<String> = self.events.iter().map(tell).collect();
        events.join(", ")
    }

    /// Runs lines of the form `REQUEST -> EVENTS`, as [`Bench::events`] tells them; what leads up to a request stands before it,
    /// behind `;`.
    #[track_caller]
    pub(crate) fn event_table(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (requests, events) = line.split_once(" ->").unwrap_or((line, ""));
            requests.split("; ").for_each(|request| {
                self.run(request);
            });
            assert_eq!(self.events(), events.trim(), "{requests}");
        }
        self.shard.check();
    }

    /// Runs lines of the form `REQUEST -> REPLY`, as [`Bench::run`] prints it; walks the shard at the end.
    #[track_caller]
    pub(crate) fn table(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (request, reply) = line
                .split_once(" -> ")
                .unwrap_or_else(|| panic!("no reply in {line}"));
            assert_eq!(self.run(request), reply, "{request}");
        }
        self.shard.check();
    }
}
