//! Options with a syntax of their own: several words, several lines, or a spelling that is not one value.

use std::fmt;
use std::path::Path;

use super::fields::Config;
use super::row::{Line, Source};
use super::value::{Reject, memory_text, parse_memory, parse_text};
use super::words::{bare_or_quoted, quoted};

/// Takes an option's words in.
type Take = fn(&mut Config, &[&[u8]], Source) -> Result<(), Reject>;

/// How such an option is taken in, shown, and written to a file.
pub struct Several {
    /// Whether a line of it may hold more than one word.
    pub(super) many: bool,
    /// Takes words in.
    pub(super) take: Take,
    /// The value as CONFIG GET shows it.
    pub(super) show: fn(&Config) -> Vec<u8>,
    /// Its lines in a file; the second argument is the default configuration.
    pub(super) lines: fn(&Config, &Config) -> Vec<Line>,
}

impl fmt::Debug for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Several")
            .field("many", &self.many)
            .finish_non_exhaustive()
    }
}

/// A snapshot is due after `seconds`, if at least `changes` writes were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last snapshot.
    pub seconds: u64,
    /// Writes since the last snapshot.
    pub changes: u64,
}

/// When a client that reads too slowly is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes at which it is closed at once; 0 = never.
    pub hard_bytes: u64,
    /// Bytes it may exceed for a while only; 0 = no such limit.
    pub soft_bytes: u64,
    /// That while, in seconds.
    pub soft_seconds: u32,
}

/// The limit of each class of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimits {
    /// Ordinary clients, MONITOR included.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Clients with a subscription.
    pub pubsub: OutputLimit,
}

/// The primary to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A line `rename-command from to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The command's name.
    pub from: Vec<u8>,
    /// Its new name; empty takes the command away.
    pub to: Vec<u8>,
}

/// A line `user name rules...`.
#[derive(Clone, PartialEq, Eq)]
pub struct UserLine {
    /// The user's name.
    pub name: Vec<u8>,
    /// The rules of ACL SETUSER, passwords among them.
    pub rules: Vec<Vec<u8>>,
}

impl fmt::Debug for UserLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserLine")
            .field("name", &String::from_utf8_lossy(&self.name))
            .finish_non_exhaustive()
    }
}

/// How a signal shuts the server down; none set is the default way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags {
    /// Take a snapshot even without save points.
    pub save: bool,
    /// Take none even with save points.
    pub nosave: bool,
    /// Do not wait for replicas.
    pub now: bool,
    /// Exit even if the snapshot fails.
    pub force: bool,
}

/// Which keyspace events are published, one bit for each letter of the option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(u16);

impl KeyspaceEvents {
    /// `K`: on the channel of the key.
    pub const KEYSPACE: Self = Self(1 << 0);
    /// `E`: on the channel of the event.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`: commands of no type, as DEL and EXPIRE.
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`: strings.
    pub const STRING: Self = Self(1 << 3);
    /// `l`: lists.
    pub const LIST: Self = Self(1 << 4);
    /// `s`: sets.
    pub const SET: Self = Self(1 << 5);
    /// `h`: hashes.
    pub const HASH: Self = Self(1 << 6);
    /// `z`: sorted sets.
    pub const ZSET: Self = Self(1 << 7);
    /// `x`: a deadline passed.
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`: evicted.
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`: streams.
    pub const STREAM: Self = Self(1 << 10);
    /// `d`: module types.
    pub const MODULE: Self = Self(1 << 11);
    /// `n`: a key that was not there before.
    pub const NEW: Self = Self(1 << 12);
    /// `m`: a key that was asked for and is not there.
    pub const MISS: Self = Self(1 << 13);
    /// `A`: all kinds of events but `m` and `n`.
    pub const ALL: Self = Self(0b1111_1111_1100);

    /// Letter and bit, in the order of printing.
    const LETTERS: [(u8, Self); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::MISS),
    ];

    /// Whether every event of `other` is published.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The classes of events that are to be kept: none if there is no channel for them.
    pub fn classes(self) -> u16 {
        use storage::EventClass as Class;
        let pairs = [
            (Self::GENERIC, Class::Generic),
            (Self::STRING, Class::String),
            (Self::LIST, Class::List),
            (Self::SET, Class::Set),
            (Self::HASH, Class::Hash),
            (Self::ZSET, Class::Zset),
            (Self::STREAM, Class::Stream),
            (Self::EXPIRED, Class::Expired),
            (Self::EVICTED, Class::Evicted),
            (Self::MISS, Class::KeyMiss),
            (Self::MODULE, Class::Module),
            (Self::NEW, Class::New),
        ];
        let channels = Self(Self::KEYSPACE.0 | Self::KEYEVENT.0);
        if self.0 & channels.0 == 0 {
            return 0;
        }
        let wanted = pairs.iter().filter(|(bit, _)| self.contains(*bit));
        wanted.fold(0, |bits, (_, class)| bits | *class as u16)
    }

    /// Whether nothing at all is published.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The events that letters stand for.
    pub fn of_letters(letters: &[u8]) -> Option<Self> {
        let mut events = Self(0);
        for &letter in letters {
            let known = Self::LETTERS.iter().find(|(known, _)| *known == letter);
            let bits = match (letter, known) {
                (b'A', _) => Self::ALL,
                (_, Some(&(_, bits))) => bits,
                _ => return None,
            };
            events.0 |= bits.0;
        }
        Some(events)
    }

    /// The letters as CONFIG GET shows them.
    pub fn letters(self) -> String {
        let mut text = String::new();
        let all = self.contains(Self::ALL);
        if all {
            text.push('A');
        }
        for (letter, bits) in Self::LETTERS {
            let told = all && Self::ALL.contains(bits);
            if self.contains(bits) && !told {
                text.push(char::from(letter));
            }
        }
        text
    }
}

/// As Redis: more addresses than this are refused.
const BIND_ADDRESSES_MAX: usize = 16;

/// Bounds of the kernel's out-of-memory scores, with room for relative ones.
const OOM_SCORE_MIN: i32 = -2000;
const OOM_SCORE_MAX: i32 = 2000;

/// A line that is there if the value is not the default.
fn one_line(values: Vec<u8>, forced: bool) -> Vec<Line> {
    vec![Line { values, forced }]
}

fn joined(words: &[String], each: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let words: Vec<Vec<u8>> = words.iter().map(|word| each(word.as_bytes())).collect();
    words.join(&b' ')
}

/// A value that is text of several words, or `""`.
fn or_empty_quotes(text: String) -> Vec<u8> {
    if text.is_empty() {
        quoted(b"")
    } else {
        text.into_bytes()
    }
}

/// `""` alone means no word.
fn unless_empty<'a, 'b>(words: &'a [&'b [u8]]) -> &'a [&'b [u8]] {
    match words {
        [[]] => &[],
        _ => words,
    }
}

fn signed(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

// bind, admin-bind

fn addresses(words: &[&[u8]]) -> Result<Vec<String>, Reject> {
    if words.len() > BIND_ADDRESSES_MAX {
        return Err(Reject::Rule("Too many bind addresses specified."));
    }
    let text = |word: &&[u8]| parse_text(word).map(str::to_owned);
    unless_empty(words).iter().map(text).collect()
}

fn address_line(addresses: &[String]) -> Vec<u8> {
    if addresses.is_empty() {
        quoted(b"")
    } else {
        joined(addresses, bare_or_quoted)
    }
}

/// `bind a b c`; `""` binds none. A default is never written.
pub(super) static BIND: Several = Several {
    many: true,
    take: |config, words, _| {
        config.bind = addresses(words)?;
        Ok(())
    },
    show: |config| joined(&config.bind, <[u8]>::to_vec),
    lines: |config, base| {
        if config.bind == base.bind {
            return Vec::new();
        }
        one_line(address_line(&config.bind), true)
    },
};

/// `admin-bind a b`; `""` binds none.
pub(super) static ADMIN_BIND: Several = Several {
    many: true,
    take: |config, words, _| {
        config.admin_bind = addresses(words)?;
        Ok(())
    },
    show: |config| joined(&config.admin_bind, <[u8]>::to_vec),
    lines: |config, base| {
        one_line(
            address_line(&config.admin_bind),
            config.admin_bind != base.admin_bind,
        )
    },
};

// save

const BAD_SAVE: Reject = Reject::Rule("Invalid save parameters");

fn save_points(words: &[&[u8]]) -> Result<Vec<SavePoint>, Reject> {
    let mut points = Vec::new();
    for pair in words.chunks(2) {
        let [seconds, changes] = pair else {
            return Err(BAD_SAVE);
        };
        let number = |word: &[u8]| signed(word).and_then(|n| u64::try_from(n).ok());
        match (number(seconds), number(changes)) {
            (Some(seconds @ 1..), Some(changes)) => points.push(SavePoint { seconds, changes }),
            _ => return Err(BAD_SAVE),
        }
    }
    Ok(points)
}

fn save_text(point: &SavePoint) -> String {
    format!("{} {}", point.seconds, point.changes)
}

/// `save 900 1 300 10`, or a line each; `""` clears. Lines of a file add up, CONFIG SET replaces.
pub(super) static SAVE: Several = Several {
    many: true,
    take: |config, words, source| {
        let points = save_points(unless_empty(words))?;
        if source == Source::Client || points.is_empty() {
            config.save.clear();
        }
        config.save.extend(points);
        Ok(())
    },
    show: |config| {
        let points: Vec<String> = config.save.iter().map(save_text).collect();
        points.join(" ").into_bytes()
    },
    lines: |config, _| {
        if config.save.is_empty() {
            return one_line(quoted(b""), true);
        }
        let line = |point| Line {
            values: save_text(point).into_bytes(),
            forced: true,
        };
        config.save.iter().map(line).collect()
    },
};

// client-output-buffer-limit

impl OutputLimits {
    /// Class, its name for CONFIG GET, its name in files.
    fn classes(&self) -> [(&OutputLimit, &'static str, &'static str); 3] {
        [
            (&self.normal, "normal", "normal"),
            (&self.replica, "slave", "replica"),
            (&self.pubsub, "pubsub", "pubsub"),
        ]
    }

    fn of_class(&mut self, name: &[u8]) -> Option<&mut OutputLimit> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(&mut self.normal),
            b"slave" | b"replica" => Some(&mut self.replica),
            b"pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }
}

fn output_limit(hard: &[u8], soft: &[u8], seconds: &[u8]) -> Option<OutputLimit> {
    Some(OutputLimit {
        hard_bytes: u64::try_from(parse_memory(hard)?).ok()?,
        soft_bytes: u64::try_from(parse_memory(soft)?).ok()?,
        soft_seconds: u32::try_from(signed(seconds)?).ok()?,
    })
}

fn output_limits(mut limits: OutputLimits, words: &[&[u8]]) -> Result<OutputLimits, Reject> {
    for four in words.chunks(4) {
        let [class, hard, soft, seconds] = four else {
            return Err(Reject::Rule(
                "Wrong number of arguments in buffer limit configuration.",
            ));
        };
        let Some(place) = limits.of_class(class) else {
            return Err(Reject::Rule(
                "Invalid client class specified in buffer limit configuration.",
            ));
        };
        *place = output_limit(hard, soft, seconds).ok_or(Reject::Rule(
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ))?;
    }
    Ok(limits)
}

/// `client-output-buffer-limit class hard soft seconds`, repeated; a class left out keeps its limit.
pub(super) static OUTPUT_LIMITS: Several = Several {
    many: true,
    take: |config, words, _| {
        let limits = config.client_output_buffer_limit;
        config.client_output_buffer_limit = output_limits(limits, words)?;
        Ok(())
    },
    show: |config| {
        let classes = config.client_output_buffer_limit.classes();
        let text = classes.map(|(limit, name, _)| {
            format!(
                "{name} {} {} {}",
                limit.hard_bytes, limit.soft_bytes, limit.soft_seconds
            )
        });
        text.join(" ").into_bytes()
    },
    lines: |config, base| {
        let base = base.client_output_buffer_limit.classes();
        let mine = config.client_output_buffer_limit.classes();
        let line = |((limit, _, name), (default, _, _)): ((&OutputLimit, _, &str), (&_, _, _))| {
            let hard = memory_text(i128::from(limit.hard_bytes));
            let soft = memory_text(i128::from(limit.soft_bytes));
            let values = format!("{name} {hard} {soft} {}", limit.soft_seconds).into_bytes();
            Line {
                values,
                forced: limit != default,
            }
        };
        mine.into_iter().zip(base).map(line).collect()
    },
};

// oom-score-adj-values

fn oom_text(config: &Config) -> String {
    config
        .oom_score_adj_values
        .map(|score| score.to_string())
        .join(" ")
}

/// `oom-score-adj-values primary replica child`.
pub(super) static OOM_VALUES: Several = Several {
    many: true,
    take: |config, words, _| {
        let [a, b, c] = words else {
            return Err(Reject::WrongArguments);
        };
        let mut scores = [0; 3];
        for (score, word) in scores.iter_mut().zip([a, b, c]) {
            let value = signed(word).and_then(|n| i32::try_from(n).ok());
            *score = value
                .filter(|n| (OOM_SCORE_MIN..=OOM_SCORE_MAX).contains(n))
                .ok_or(Reject::Rule(
                    "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
                ))?;
        }
        config.oom_score_adj_values = scores;
        Ok(())
    },
    show: |config| oom_text(config).into_bytes(),
    lines: |config, base| {
        let forced = config.oom_score_adj_values != base.oom_score_adj_values;
        one_line(oom_text(config).into_bytes(), forced)
    },
};

// latency-tracking-info-percentiles

fn percentile(word: &[u8]) -> Result<f64, Reject> {
    let number = std::str::from_utf8(word)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    let number = number.filter(|n| !n.is_nan()).ok_or(Reject::Rule(
        "Invalid latency-tracking-info-percentiles parameters",
    ))?;
    if (0.0..=100.0).contains(&number) {
        Ok(number)
    } else {
        Err(Reject::Rule(
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ))
    }
}

fn percentile_text(config: &Config) -> String {
    let text = |n: &f64| {
        let fixed = format!("{n:.6}");
        fixed.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let all: Vec<String> = config
        .latency_tracking_info_percentiles
        .iter()
        .map(text)
        .collect();
    all.join(" ")
}

/// `latency-tracking-info-percentiles 50 99 99.9`; `""` shows none.
pub(super) static PERCENTILES: Several = Several {
    many: true,
    take: |config, words, _| {
        let all: Result<Vec<f64>, Reject> = unless_empty(words)
            .iter()
            .map(|word| percentile(word))
            .collect();
        config.latency_tracking_info_percentiles = all?;
        Ok(())
    },
    show: |config| percentile_text(config).into_bytes(),
    lines: |config, base| {
        let forced =
            config.latency_tracking_info_percentiles != base.latency_tracking_info_percentiles;
        one_line(or_empty_quotes(percentile_text(config)), forced)
    },
};

// notify-keyspace-events

/// `notify-keyspace-events KEA`.
pub(super) static NOTIFY: Several = Several {
    many: false,
    take: |config, words, _| {
        let [word] = words else {
            return Err(Reject::WrongArguments);
        };
        config.notify_keyspace_events = KeyspaceEvents::of_letters(word).ok_or(Reject::Rule(
            "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
        ))?;
        Ok(())
    },
    show: |config| config.notify_keyspace_events.letters().into_bytes(),
    lines: |config, _| {
        let events = config.notify_keyspace_events;
        one_line(quoted(events.letters().as_bytes()), !events.is_empty())
    },
};

// dir

/// `dir path`: relative to the folder before. That it exists is for `Files::enter` to find out.
pub(super) static DIR: Several = Several {
    many: false,
    take: |config, words, _| {
        let [word] = words else {
            return Err(Reject::WrongArguments);
        };
        let text = parse_text(word)?;
        if text.is_empty() {
            return Err(Reject::Rule("No such file or directory"));
        }
        let path = Path::new(&config.dir).join(text);
        config.dir = path.to_string_lossy().into_owned();
        Ok(())
    },
    show: |config| config.dir.clone().into_bytes(),
    lines: |config, _| one_line(quoted(config.dir.as_bytes()), true),
};

// replicaof

/// `replicaof host port`, or `no one`. A cluster's node keeps its primary elsewhere.
pub(super) static REPLICAOF: Several = Several {
    many: true,
    take: |config, words, _| {
        let [host, port] = unless_empty(words) else {
            return if words.iter().all(|word| word.is_empty()) {
                config.replicaof = None;
                Ok(())
            } else {
                Err(Reject::WrongArguments)
            };
        };
        config.replicaof = None;
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            return Ok(());
        }
        let port = signed(port).and_then(|n| u16::try_from(n).ok());
        let port = port.ok_or(Reject::Rule("Invalid master port"))?;
        config.replicaof = Some(Primary {
            host: parse_text(host)?.to_owned(),
            port,
        });
        Ok(())
    },
    show: |config| match &config.replicaof {
        Some(primary) => format!("{} {}", primary.host, primary.port).into_bytes(),
        None => Vec::new(),
    },
    lines: |config, _| match &config.replicaof {
        Some(primary) if !config.cluster_enabled => {
            let host = bare_or_quoted(primary.host.as_bytes());
            one_line(
                [&host[..], format!(" {}", primary.port).as_bytes()].concat(),
                true,
            )
        }
        _ => Vec::new(),
    },
};

// shutdown-on-sigint, shutdown-on-sigterm

const SHUTDOWN_WORDS: &[&str] = &["default", "save", "nosave", "now", "force"];

impl ShutdownFlags {
    fn of_words(words: &[&[u8]]) -> Result<Self, Reject> {
        let mut flags = Self::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => flags.save = true,
                b"nosave" => flags.nosave = true,
                b"now" => flags.now = true,
                b"force" => flags.force = true,
                _ => return Err(Reject::NotOneOf(SHUTDOWN_WORDS)),
            }
        }
        match (words.is_empty(), flags.save && flags.nosave) {
            (true, _) => Err(Reject::NotOneOf(SHUTDOWN_WORDS)),
            (_, true) => Err(Reject::Rule(
                "shutdown options SAVE and NOSAVE can't be used simultaneously",
            )),
            _ => Ok(flags),
        }
    }

    fn words(self) -> String {
        let all = [
            (self.save, "save"),
            (self.nosave, "nosave"),
            (self.now, "now"),
            (self.force, "force"),
        ];
        let set: Vec<&str> = all
            .iter()
            .filter(|(on, _)| *on)
            .map(|&(_, word)| word)
            .collect();
        if set.is_empty() {
            "default".to_owned()
        } else {
            set.join(" ")
        }
    }
}

macro_rules! shutdown_on {
    ($field:ident) => {
        Several {
            many: true,
            take: |config, words, _| {
                config.$field = ShutdownFlags::of_words(words)?;
                Ok(())
            },
            show: |config| config.$field.words().into_bytes(),
            lines: |config, base| {
                one_line(
                    config.$field.words().into_bytes(),
                    config.$field != base.$field,
                )
            },
        }
    };
}

/// `shutdown-on-sigint nosave force`.
pub(super) static SHUTDOWN_ON_SIGINT: Several = shutdown_on!(shutdown_on_sigint);
/// `shutdown-on-sigterm default`.
pub(super) static SHUTDOWN_ON_SIGTERM: Several = shutdown_on!(shutdown_on_sigterm);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_print_in_redis_s_order() {
        let letters = |text: &str| {
            KeyspaceEvents::of_letters(text.as_bytes())
                .unwrap()
                .letters()
        };
        assert_eq!(letters("KEA"), "AKE");
        assert_eq!(letters("Ex"), "xE");
        assert_eq!(letters("g$lshzxetd"), "A");
        assert_eq!(letters("KEAm"), "AKEm");
        assert_eq!(letters(""), "");
        assert_eq!(KeyspaceEvents::of_letters(b"q"), None);
        assert!(!KeyspaceEvents::ALL.contains(KeyspaceEvents::NEW));
    }

    #[test]
    fn limits_are_taken_whole_or_not_at_all() {
        let mut config = Config::default();
        let bad: [&[u8]; 8] = [b"normal", b"1", b"1", b"1", b"other", b"1", b"1", b"1"];
        assert!((OUTPUT_LIMITS.take)(&mut config, &bad, Source::Client).is_err());
        assert_eq!(config, Config::default());
        let good: [&[u8]; 4] = [b"REPLICA", b"1mb", b"1k", b"7"];
        (OUTPUT_LIMITS.take)(&mut config, &good, Source::Client).unwrap();
        let want = OutputLimit {
            hard_bytes: 1 << 20,
            soft_bytes: 1000,
            soft_seconds: 7,
        };
        assert_eq!(config.client_output_buffer_limit.replica, want);
    }
}
