//! What is declared of an option, and how its words become its field and back.

use super::fields::Config;
use super::several::Several;
use super::value::{
    Reject, Value, memory_text, parse_flag, parse_int, parse_memory, parse_octal, parse_text,
};
use super::words::{quoted, split_words};

/// One option: the only place that says what it is called, holds, starts as and does.
#[derive(Debug)]
pub struct Row {
    /// The name it is shown and rewritten under.
    pub name: &'static str,
    /// Older names, taken and shown as well.
    pub aliases: &'static [&'static str],
    /// What it may hold.
    pub kind: Kind,
    /// The default, written as in a file.
    pub default: &'static str,
    /// When it may change.
    pub change: Change,
    /// What this version does with it.
    pub standing: Standing,
    /// Shown by CONFIG GET only under its exact name.
    pub hidden: bool,
    /// Its value must not reach logs, SLOWLOG or MONITOR.
    pub secret: bool,
    /// Setting it to what it is still counts as a change: it names a file, and the file may be another.
    pub volatile: bool,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Where its value lives.
    pub(super) place: Place,
}

/// When an option may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By CONFIG SET.
    Live,
    /// By CONFIG SET, but not while a data set is loading.
    NotWhileLoading,
    /// By CONFIG SET from those whom `enable-protected-configs` names.
    Protected,
    /// As `Protected`, and not while a data set is loading.
    ProtectedNotWhileLoading,
    /// Only by the file or the command line.
    AtStart,
}

/// What this version does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has its effect.
    Works,
    /// Accepted; Meridian's design leaves it nothing to do, for this reason.
    Needless(&'static str),
    /// Accepted and kept; it takes effect in a later version, and waiting does no harm.
    Later(&'static str),
    /// Only its default is accepted, since to pass over another value would do harm; the refusal's text.
    Refused(&'static str),
}

/// What an option may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// yes or no.
    Flag,
    /// A number of this unit, within these bounds.
    Int {
        /// How it is written.
        unit: Unit,
        /// The least allowed.
        min: i128,
        /// The most allowed.
        max: i128,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A text that passes its check.
    Text {
        /// The option's own rule.
        check: fn(&str) -> Result<(), Reject>,
        /// Empty means absent: CONFIG REWRITE then takes the line out.
        none: bool,
    },
    /// Bytes of any sort; empty means absent.
    Secret,
    /// An option with a syntax of its own.
    Several(&'static Several),
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Plainly.
    Plain,
    /// Bytes, `1gb` and the like in a file.
    Memory,
    /// Bytes, or a share of `maxmemory` as `5%`, which is kept as -5.
    MemoryOrPercent,
    /// In digits 0 to 7, as file modes are.
    Octal,
}

/// Where a value lives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In a field of `Config`.
    Field {
        /// Reads the field.
        out: fn(&Config) -> Value,
        /// Writes it.
        put: fn(&mut Config, Value),
    },
    /// Beside the fields under the row's name; or nowhere, when the kind is `Several`.
    Kept,
}

/// The pair of functions that reach one field.
macro_rules! at {
    ($field:ident) => {
        $crate::config::row::Place::Field {
            out: |config| $crate::config::value::Held::out(&config.$field),
            put: |config, value| $crate::config::value::Held::put(&mut config.$field, value),
        }
    };
}
pub(super) use at;

/// Who speaks: in a file `save` lines add up, a client's CONFIG SET replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A line of a file, of standard input or of the command line.
    File,
    /// CONFIG SET.
    Client,
}

/// A line of a file for an option, and whether it must be there even if it was not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The text after the name.
    pub(super) values: Vec<u8>,
    /// False: only written over a line that was there.
    pub(super) forced: bool,
}

/// Bounds that C's types give to Redis's options.
pub(super) const INT_MAX: i128 = i32::MAX as i128;
pub(super) const INT_MIN: i128 = i32::MIN as i128;
pub(super) const UINT_MAX: i128 = u32::MAX as i128;
pub(super) const LONG_MAX: i128 = i64::MAX as i128;
pub(super) const ULONG_MAX: i128 = u64::MAX as i128;
pub(super) const PORT_MAX: i128 = u16::MAX as i128;

/// A plain number.
pub(super) const fn int(min: i128, max: i128) -> Kind {
    Kind::Int {
        unit: Unit::Plain,
        min,
        max,
    }
}

/// A number of bytes.
pub(super) const fn memory(min: i128, max: i128) -> Kind {
    Kind::Int {
        unit: Unit::Memory,
        min,
        max,
    }
}

/// A text; empty is a value like any other.
pub(super) const TEXT: Kind = Kind::Text {
    check: any_text,
    none: false,
};

/// A text; empty means absent.
pub(super) const OPTIONAL_TEXT: Kind = Kind::Text {
    check: any_text,
    none: true,
};

fn any_text(_: &str) -> Result<(), Reject> {
    Ok(())
}

impl Row {
    /// What most rows share: a flag that clients may change and that works. Each row names the rest.
    pub(super) const LIVE: Self = Self {
        name: "",
        aliases: &[],
        kind: Kind::Flag,
        default: "",
        change: Change::Live,
        standing: Standing::Works,
        hidden: false,
        secret: false,
        volatile: false,
        summary: "",
        place: Place::Kept,
    };

    /// The same for rows that only the start may set.
    pub(super) const AT_START: Self = Self {
        change: Change::AtStart,
        ..Self::LIVE
    };

    /// Whether this is one of the option's names; gives it as declared.
    pub fn named(&self, name: &[u8]) -> Option<&'static str> {
        let mut names = std::iter::once(self.name).chain(self.aliases.iter().copied());
        names.find(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether the option takes several words.
    pub fn takes_many(&self) -> bool {
        matches!(self.kind, Kind::Several(several) if several.many)
    }

    /// The value as CONFIG GET shows it.
    pub fn shown(&self, config: &Config) -> Vec<u8> {
        match (self.kind, self.read(config)) {
            (Kind::Several(several), _) => (several.show)(config),
            (_, Value::Flag(flag)) => if flag { "yes" } else { "no" }.into(),
            (Kind::Int { unit, .. }, Value::Int(n)) => match unit {
                Unit::Octal => format!("{n:o}").into_bytes(),
                Unit::MemoryOrPercent if n < 0 => format!("{}%", -n).into_bytes(),
                _ => n.to_string().into_bytes(),
            },
            (_, Value::Int(n)) => n.to_string().into_bytes(),
            (_, Value::Word(word)) => word.into(),
            (_, Value::Bytes(bytes)) => bytes,
            (_, Value::Hidden(secret)) => secret.as_bytes().to_vec(),
        }
    }

    /// Takes the words of a line or of a CONFIG SET in. On a refusal the config may hold part of them:
    /// callers work on a copy.
    pub(super) fn take(
        &self,
        config: &mut Config,
        words: &[&[u8]],
        source: Source,
    ) -> Result<(), Reject> {
        match (self.kind, words) {
            (Kind::Several(several), _) => (several.take)(config, words, source)?,
            (_, [word]) => {
                let value = self.parse(word)?;
                self.write(config, value);
            }
            _ => return Err(Reject::WrongArguments),
        }
        match self.standing {
            Standing::Refused(why) if self.shown(config) != self.default_shown() => {
                Err(Reject::NotHere(why))
            }
            _ => Ok(()),
        }
    }

    /// Takes the row's own default in. A default that does not parse would be found by the tests.
    pub(super) fn take_default(&self, config: &mut Config) {
        let words = if self.takes_many() {
            split_words(self.default.as_bytes()).unwrap_or_default()
        } else {
            vec![self.default.as_bytes().to_vec()]
        };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let taken = match self.kind {
            Kind::Several(several) => (several.take)(config, &words, Source::Client),
            _ => self
                .parse(self.default.as_bytes())
                .map(|value| self.write(config, value)),
        };
        debug_assert!(taken.is_ok(), "the default of {} does not parse", self.name);
    }

    /// The lines CONFIG REWRITE puts for this option; `base` is the default configuration.
    pub(super) fn lines(&self, config: &Config, base: &Config) -> Vec<Line> {
        let shown = self.shown(config);
        let forced = shown != self.shown(base);
        let values = match (self.kind, self.read(config)) {
            (Kind::Several(several), _) => return (several.lines)(config, base),
            (Kind::Text { none: true, .. } | Kind::Secret, _) if shown.is_empty() => {
                return Vec::new();
            }
            (Kind::Text { .. } | Kind::Secret, _) => quoted(&shown),
            (
                Kind::Int {
                    unit: Unit::Memory | Unit::MemoryOrPercent,
                    ..
                },
                Value::Int(n),
            ) if n >= 0 => memory_text(n).into_bytes(),
            _ => shown,
        };
        vec![Line { values, forced }]
    }

    fn default_shown(&self) -> Vec<u8> {
        let mut config = Config::blank();
        self.take_default(&mut config);
        self.shown(&config)
    }

    /// A kept value that was never set is the default.
    fn read(&self, config: &Config) -> Value {
        match self.place {
            Place::Field { out, .. } => out(config),
            Place::Kept => match config.kept.get(self.name) {
                Some(value) => value.clone(),
                None => Value::Bytes(self.default.into()),
            },
        }
    }

    fn write(&self, config: &mut Config, value: Value) {
        match self.place {
            Place::Field { put, .. } => put(config, value),
            Place::Kept => {
                config.kept.insert(self.name, value);
            }
        }
    }

    fn parse(&self, word: &[u8]) -> Result<Value, Reject> {
        match self.kind {
            Kind::Flag => parse_flag(word).map(Value::Flag).ok_or(Reject::NotFlag),
            Kind::Int { unit, min, max } => number(word, unit, min, max).map(Value::Int),
            Kind::OneOf(words) => {
                let mut all = words.iter();
                let known = all.find(|known| known.as_bytes().eq_ignore_ascii_case(word));
                known
                    .map(|&known| Value::Word(known))
                    .ok_or(Reject::NotOneOf(words))
            }
            Kind::Text { check, .. } => {
                let text = parse_text(word)?;
                check(text)?;
                Ok(Value::Bytes(word.to_vec()))
            }
            Kind::Secret => Ok(Value::Hidden(word.into())),
            Kind::Several(_) => Err(Reject::WrongArguments),
        }
    }
}

/// A number of a unit, in its range.
fn number(word: &[u8], unit: Unit, min: i128, max: i128) -> Result<i128, Reject> {
    let n = match unit {
        Unit::Plain => parse_int(word).ok_or(Reject::NotInt)?,
        Unit::Memory => parse_memory(word).ok_or(Reject::NotMemory)?,
        Unit::Octal => parse_octal(word).ok_or(Reject::NotOctal)?,
        Unit::MemoryOrPercent => match (parse_memory(word), word.strip_suffix(b"%")) {
            (Some(n), _) => n,
            (None, Some(percent)) => {
                let percent = parse_int(percent).filter(|n| *n >= 0);
                -percent.ok_or(Reject::NotMemoryOrPercent)?
            }
            (None, None) => return Err(Reject::NotMemoryOrPercent),
        },
    };
    match unit {
        _ if (min..=max).contains(&n) => Ok(n),
        Unit::Octal => Err(Reject::OutOfOctalRange { min, max }),
        Unit::MemoryOrPercent if n < 0 => Err(Reject::PercentAbove(-min)),
        _ => Err(Reject::OutOfRange { min, max }),
    }
}
