//! One user, and the question whether it may do something.
//!
//! ```text
//!   User ── passwords (hashes)
//!     └─ selectors: the root, then those in parentheses; one of them must allow the whole request
//!          ├─ commands: one bit for each row of the command table
//!          ├─ keys:     patterns, each for reading, writing or both
//!          └─ channels: patterns
//! ```
//! A selector that allows everything says so in a flag, and nothing else of it is looked at. Checks allocate nothing.

use commands::key::glob::matches;
use protocol::{Args, KeyFlags, Refusal, Spec};

use super::password::Hash;
use crate::table::Row;

/// What a pattern lets be done with a key: a set of these bits.
pub(super) type Access = u8;
/// Values may be told.
pub(super) const READ: Access = 1;
/// Values may be changed.
pub(super) const WRITE: Access = 2;

/// Keys that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    /// For what.
    pub access: Access,
    /// The glob.
    pub pattern: Vec<u8>,
}

/// One set of permissions. All parts of a request must be allowed by the same one.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Every key, for everything.
    pub all_keys: bool,
    /// Every channel.
    pub all_channels: bool,
    /// Every command; false as soon as one was taken away.
    pub all_commands: bool,
    /// It began with `+@all`: what is not named is allowed.
    pub from_all: bool,
    /// Rows that are allowed, by their number.
    pub commands: Vec<u64>,
    /// First arguments that are allowed of rows that are not.
    pub first_args: Vec<(usize, Vec<u8>)>,
    /// Keys.
    pub patterns: Vec<KeyPattern>,
    /// Channels.
    pub channels: Vec<Vec<u8>>,
    /// The rules of commands as they are shown: `+get`, `-@dangerous`.
    pub rules: Vec<Vec<u8>>,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name.
    pub name: Vec<u8>,
    /// Tells it from another of its name, before or after.
    pub id: u64,
    /// It may log in.
    pub enabled: bool,
    /// Any password is right.
    pub nopass: bool,
    /// RESTORE trusts what it brings.
    pub skip_sanitize: bool,
    /// Hashes of its passwords.
    pub passwords: Vec<Hash>,
    /// Permissions outside of parentheses.
    pub root: Selector,
    /// Permissions in parentheses.
    pub selectors: Vec<Selector>,
    /// Nothing is forbidden: no check is needed.
    pub may_all: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The command.
    Command,
    /// The key at this word.
    Key(usize),
    /// The channel at this word.
    Channel(usize),
}

impl From<Denied> for super::Denial {
    fn from(denied: Denied) -> super::Denial {
        match denied {
            Denied::Command => super::Denial::Command,
            Denied::Key(_) => super::Denial::Key,
            Denied::Channel(_) => super::Denial::Channel,
        }
    }
}

impl Denied {
    /// The order in which several selectors' reasons are weighed: the later kind, then the later word, is told.
    fn rank(self) -> (u8, usize) {
        match self {
            Denied::Command => (0, 0),
            Denied::Key(word) => (1, word),
            Denied::Channel(word) => (2, word),
        }
    }

    /// The word that is told of it: a key, a channel, or the command's full name.
    pub fn object<'a>(self, row: &'static Row, args: &Args<'a>) -> &'a [u8] {
        match self {
            Denied::Command => row.spec.name.as_bytes(),
            Denied::Key(word) | Denied::Channel(word) => args.word(word).unwrap_or_default(),
        }
    }

    /// What the client is told.
    pub fn refusal(self, user: &User, row: &Row) -> Refusal {
        match self {
            Denied::Command => {
                Refusal::no_permission(&String::from_utf8_lossy(&user.name), row.spec.name)
            }
            Denied::Key(_) => Refusal::NoPermKey,
            Denied::Channel(_) => Refusal::NoPermChannel,
        }
    }

    /// What EXEC answers for a command that was allowed when it was queued.
    pub fn at_exec(self) -> Refusal {
        let why = match self {
            Denied::Command => "no permission to execute the command or subcommand",
            Denied::Key(_) => "no permission to touch the specified keys",
            Denied::Channel(_) => "no permission to access one of the channels used as arguments",
        };
        let text = format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: {why}"
        );
        Refusal::Owned(text.into())
    }

    /// What ACL DRYRUN answers, as bytes since it quotes the object.
    pub fn told(self, user: &User, row: &'static Row, args: &Args<'_>) -> Vec<u8> {
        let (before, after): (&[u8], &[u8]) = match self {
            Denied::Command => (b"run the '", b"' command"),
            Denied::Key(_) => (b"access the '", b"' key"),
            Denied::Channel(_) => (b"access the '", b"' channel"),
        };
        let object = self.object(row, args);
        [
            b"User ",
            &*user.name,
            b" has no permissions to ",
            before,
            object,
            after,
        ]
        .concat()
    }
}

impl User {
    /// All its selectors, the root first.
    pub fn all_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Sets what follows from the rest.
    pub fn settle(&mut self) {
        let all = |selector: &Selector| {
            selector.all_keys && selector.all_channels && selector.all_commands
        };
        let may_all = self.all_selectors().any(all);
        self.may_all = may_all;
    }

    /// Whether this user may run this command with these words.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, row: &Row, args: &Args<'_>) -> Result<(), Denied> {
        if self.may_all {
            return Ok(());
        }
        let mut worst = Denied::Command;
        for selector in self.all_selectors() {
            match selector.check(row, args) {
                Ok(()) => return Ok(()),
                Err(denied) if denied.rank() > worst.rank() => worst = denied,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    /// As [`User::check`], and that every key may be read: what SORT asks before it follows patterns.
    pub fn may_read_every_key(&self, row: &Row, args: &Args<'_>) -> bool {
        let reads_all =
            |pattern: &KeyPattern| pattern.access & READ != 0 && pattern.pattern == b"*";
        self.may_all
            || self.all_selectors().any(|selector| {
                (selector.all_keys || selector.patterns.iter().any(reads_all))
                    && selector.check(row, args).is_ok()
            })
    }

    /// Whether the channel (or, as PSUBSCRIBE takes it, the pattern) may be used.
    pub fn may_use_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_selectors()
            .any(|selector| selector.allows_channel(channel, is_pattern))
    }
}

/// The channels of a request: the first word of them, whether only that one, and whether they are patterns.
/// None for commands that use none (or only leave them, which is always allowed).
fn channels_of(spec: &Spec) -> Option<(usize, bool, bool)> {
    match spec.name {
        "subscribe" | "ssubscribe" => Some((1, false, false)),
        "psubscribe" => Some((1, false, true)),
        "publish" | "spublish" => Some((1, true, false)),
        _ => None,
    }
}

/// What a key spec's flags ask of a pattern.
fn access_of(flags: KeyFlags) -> Access {
    let changes = KeyFlags::INSERT.and(KeyFlags::DELETE).and(KeyFlags::UPDATE);
    let read = if flags.contains(KeyFlags::ACCESS) {
        READ
    } else {
        0
    };
    let write = if flags.intersects(changes) { WRITE } else { 0 };
    read | write
}

impl Selector {
    /// Whether a row's bit is set.
    pub fn has_command(&self, index: usize) -> bool {
        let word = self.commands.get(index / 64).copied().unwrap_or(0);
        word >> (index % 64) & 1 != 0
    }

    fn check(&self, row: &Row, args: &Args<'_>) -> Result<(), Denied> {
        let free = self.all_commands || row.spec.flags.contains(protocol::Flags::NO_AUTH);
        if !free && !self.has_command(row.index) && !self.has_first_arg(row, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys && row.spec.has_keys() {
            self.check_keys(row, args)?;
        }
        if self.all_channels {
            return Ok(());
        }
        let Some((first, only, is_pattern)) = channels_of(row.spec) else {
            return Ok(());
        };
        let end = if only { first + 1 } else { args.total() };
        let denied = (first..end.min(args.total()))
            .find(|word| !self.allows_channel(args.word(*word).unwrap_or_default(), is_pattern));
        denied.map_or(Ok(()), |word| Err(Denied::Channel(word)))
    }

    fn has_first_arg(&self, row: &Row, args: &Args<'_>) -> bool {
        let Some(first) = args.word(row.name_words) else {
            return false;
        };
        let mut allowed = self.first_args.iter();
        allowed.any(|(index, word)| *index == row.index && word.eq_ignore_ascii_case(first))
    }

    fn check_keys(&self, row: &Row, args: &Args<'_>) -> Result<(), Denied> {
        let mut denied = None;
        let known = row.spec.keys_of(args, |word, spec| {
            if denied.is_none() && !spec.flags.contains(KeyFlags::NOT_KEY) {
                let access = access_of(row.spec.flags_of_key(args, spec.flags));
                let key = args.word(word).unwrap_or_default();
                denied = (!self.allows_key(key, access)).then_some(word);
            }
        });
        match (known, denied) {
            (Ok(()), Some(word)) => Err(Denied::Key(word)),
            // A request whose keys cannot be told is refused by its handler.
            _ => Ok(()),
        }
    }

    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.access & access == access && matches(&pattern.pattern, key))
    }

    /// Whether a channel may be used; a pattern only if it stands among the patterns itself.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|pattern| match is_pattern {
                true => pattern == channel,
                false => matches(pattern, channel),
            })
    }
}

/// SORT follows patterns to other keys, whose names no rule can foresee: only who may read every key may use them.
///
/// # Errors
/// The refusal of BY or GET.
pub fn check_sort(user: &User, row: &Row, args: &Args<'_>) -> Result<(), Refusal> {
    if user.may_all || !matches!(row.spec.name, "sort" | "sort_ro") {
        return Ok(());
    }
    let mut index = 2;
    while let Some(word) = args.word(index) {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let follows = args.word(index + 1);
        let denied = match follows {
            Some(pattern) if is(b"by") => {
                (pattern.contains(&b'*') && !user.may_read_every_key(row, args)).then_some("BY")
            }
            Some(_) if is(b"get") => (!user.may_read_every_key(row, args)).then_some("GET"),
            _ => None,
        };
        if let Some(option) = denied {
            let text =
                format!("ERR {option} option of SORT denied due to insufficient ACL permissions.");
            return Err(Refusal::Owned(text.into()));
        }
        index += match () {
            () if is(b"asc") || is(b"desc") || is(b"alpha") => 1,
            () if is(b"limit") => 3,
            () if is(b"by") || is(b"get") || is(b"store") => 2,
            // A syntax error, which the handler tells.
            () => return Ok(()),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::args::flatten;
    use protocol::{Acl, Arity, Flags, Group};

    use super::*;
    use crate::acl::Grammar;
    use crate::config::Config;
    use crate::table::{Kind, Plan, Table};

    const fn spec(name: &'static str) -> Spec {
        Spec {
            name,
            summary: "",
            group: Group::PubSub,
            since: "2.0.0",
            arity: Arity::at_least(1),
            flags: Flags::PUBSUB,
            acl: Acl::PUBSUB,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        }
    }

    #[test]
    fn channels_are_matched_and_patterns_compared() {
        const SPECS: [Spec; 4] = [
            spec("subscribe"),
            spec("psubscribe"),
            spec("publish"),
            spec("unsubscribe"),
        ];
        let table = Table::build(&Config::default());
        let grammar = Grammar {
            table: &table,
            all_channels: false,
        };
        let mut user = grammar.new_user(b"u", 1);
        for rule in ["+@all", "~*", "&news.*", "&old"] {
            grammar.apply(&mut user, rule.as_bytes()).unwrap();
        }
        let cases = [
            ("subscribe news.1 old", None),
            ("subscribe news.1 other old no", Some(2)),
            ("psubscribe news.* old", None),
            ("psubscribe news.1", Some(1)),
            ("publish news.1 other", None),
            ("publish other news.1", Some(1)),
            ("unsubscribe other", None),
        ];
        for (request, denied) in cases {
            let (mut buf, mut words) = (Vec::new(), Vec::new());
            let owned: Vec<Vec<u8>> = request.split(' ').map(Into::into).collect();
            flatten(&owned, &mut buf, &mut words);
            let spec = SPECS.iter().find(|spec| spec.name.as_bytes() == owned[0]);
            let row = Row {
                spec: spec.unwrap(),
                kind: Kind::Container,
                spread: commands::Spread::Keys,
                plan: Plan::Node,
                index: 0,
                name_words: 1,
                subcommands: Vec::new(),
                writes: false,
                is_plain: false,
                element_word: 0,
                of_hashes: false,
                arity: protocol::Arity::at_least(1),
                cost: None,
            };
            let checked = user.check(&row, &Args::new(&buf, &words));
            assert_eq!(checked.err(), denied.map(Denied::Channel), "{request}");
        }
        assert!(user.may_use_channel(b"news.2", false) && !user.may_use_channel(b"news.2", true));
    }
}
