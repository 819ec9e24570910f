//! The rules of ACL SETUSER, `user` lines and ACL files: one word each, applied in order; and users told as rules again.

use protocol::Acl;

use super::password::Hash;
use super::user::{Access, KeyPattern, READ, Selector, User, WRITE};
use crate::config::{UserLine, split_words};
use crate::table::{Row, Table};

/// Why a rule is refused; the texts are Redis's, since tools show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// No such command or category.
    Unknown,
    /// No rule looks like this, or a pattern has blanks.
    Syntax,
    /// A key pattern after that for all keys.
    AfterAllKeys,
    /// A channel pattern after that for all channels.
    AfterAllChannels,
    /// The password to take away is not there.
    NoSuchPassword,
    /// Not a SHA-256 in hexadecimal digits.
    BadHash,
    /// First arguments of subcommands cannot be allowed.
    FirstArgOfSubcommand,
}

impl RuleError {
    /// What is told of it.
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => {
                "Allowing first-arg of a subcommand is not supported"
            }
        }
    }
}

/// What rules are read against.
#[derive(Clone, Copy)]
pub struct Grammar<'a> {
    /// The commands there are.
    pub table: &'a Table,
    /// `acl-pubsub-default allchannels`: new selectors may use every channel.
    pub all_channels: bool,
}

/// Whether a name or pattern could not be told in a line: it has blanks or a zero byte.
pub fn has_blanks(text: &[u8]) -> bool {
    text.iter()
        .any(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0))
}

/// Puts selectors that came in several words together again. Err: the word whose parenthesis stays open.
pub fn merged(words: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, &[u8]> {
    let mut rules: Vec<Vec<u8>> = Vec::with_capacity(words.len());
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (at, word) in words.iter().enumerate() {
        let closes = word.last() == Some(&b')');
        match &mut open {
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if closes {
                    rules.extend(open.take().map(|(_, selector)| selector));
                }
            }
            None if word.first() == Some(&b'(') && !closes => open = Some((at, word.clone())),
            None => rules.push(word.clone()),
        }
    }
    match open {
        Some((at, _)) => Err(&words[at]),
        None => Ok(rules),
    }
}

impl Grammar<'_> {
    /// A user as it is before any rule: it may do nothing.
    pub fn new_user(&self, name: &[u8], id: u64) -> User {
        User {
            name: name.to_vec(),
            id,
            enabled: false,
            nopass: false,
            skip_sanitize: false,
            passwords: Vec::new(),
            root: self.new_selector(),
            selectors: Vec::new(),
            may_all: false,
        }
    }

    /// The user that connections have before they log in: it may do everything, without a password.
    pub fn default_user(&self, id: u64) -> User {
        let mut user = self.new_user(super::DEFAULT_USER, id);
        (user.enabled, user.nopass) = (true, true);
        user.root.all_keys = true;
        user.root.all_channels = true;
        user.root.set_all(true, self.table);
        user.settle();
        user
    }

    fn new_selector(&self) -> Selector {
        Selector {
            all_channels: self.all_channels,
            commands: vec![0; self.table.rows().len().div_ceil(64)],
            ..Selector::default()
        }
    }

    /// Applies one rule. On an error the user may be changed in part: callers work on a copy.
    ///
    /// # Errors
    /// Why the rule is not one.
    pub fn apply(&self, user: &mut User, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            [] => {}
            _ if is("on") => user.enabled = true,
            _ if is("off") => user.enabled = false,
            _ if is("skip-sanitize-payload") => user.skip_sanitize = true,
            _ if is("sanitize-payload") => user.skip_sanitize = false,
            _ if is("nopass") || is("resetpass") => {
                user.nopass = is("nopass");
                user.passwords.clear();
            }
            [b'>' | b'#', ..] => {
                let hash = hash_of(rule)?;
                if !user.passwords.contains(&hash) {
                    user.passwords.push(hash);
                }
                user.nopass = false;
            }
            [b'<' | b'!', ..] => {
                let hash = hash_of(rule)?;
                let at = user.passwords.iter().position(|known| *known == hash);
                user.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
            }
            [b'(', inner @ .., b')'] => {
                let mut selector = self.new_selector();
                // Quotes that do not close make a selector without rules, as in Redis: it allows nothing.
                for rule in split_words(inner).unwrap_or_default() {
                    self.apply_to(&mut selector, &rule)?;
                }
                user.selectors.push(selector);
            }
            _ if is("clearselectors") => user.selectors.clear(),
            _ if is("reset") => {
                let fresh = self.new_user(&user.name, user.id);
                *user = fresh;
            }
            _ => self.apply_to(&mut user.root, rule)?,
        }
        user.settle();
        Ok(())
    }

    fn apply_to(&self, selector: &mut Selector, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            _ if is("allkeys") || is("~*") || is("resetkeys") => {
                selector.all_keys = !is("resetkeys");
                selector.patterns.clear();
            }
            _ if is("allchannels") || is("&*") || is("resetchannels") => {
                selector.all_channels = !is("resetchannels");
                selector.channels.clear();
            }
            _ if is("allcommands") || is("+@all") => selector.set_all(true, self.table),
            _ if is("nocommands") || is("-@all") => selector.set_all(false, self.table),
            [b'~' | b'%', ..] => add_pattern(selector, rule)?,
            [b'&', channel @ ..] => {
                if selector.all_channels {
                    return Err(RuleError::AfterAllChannels);
                }
                if has_blanks(channel) {
                    return Err(RuleError::Syntax);
                }
                if !selector.channels.iter().any(|known| known == channel) {
                    selector.channels.push(channel.to_vec());
                }
            }
            [sign @ (b'+' | b'-'), b'@', category @ ..] => {
                let category = Acl::from_name(category).ok_or(RuleError::Unknown)?;
                self.set_category(selector, category, *sign == b'+');
                selector.note(&rule[1..], *sign == b'+');
            }
            [b'+', command @ ..] => self.allow(selector, command)?,
            [b'-', command @ ..] => {
                let row = self.row(command).ok_or(RuleError::Unknown)?;
                selector.set(row, false);
                selector.note(row.spec.name.as_bytes(), false);
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    /// `+command`, `+command|subcommand`, `+command|first-argument`.
    fn allow(&self, selector: &mut Selector, command: &[u8]) -> Result<(), RuleError> {
        let Some(at) = memchr::memrchr(b'|', command) else {
            let row = self.row(command).ok_or(RuleError::Unknown)?;
            selector.set(row, true);
            selector.note(row.spec.name.as_bytes(), true);
            return Ok(());
        };
        let first_arg = &command[at + 1..];
        let row = self.row(&command[..at]).ok_or(RuleError::Unknown)?;
        if row.name_words > 1 {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        // (One with blanks could not be told in a line.)
        if first_arg.is_empty() || has_blanks(first_arg) {
            return Err(RuleError::Syntax);
        }
        if row.subcommands.is_empty() {
            let allowed = (row.index, first_arg.to_vec());
            if !selector
                .first_args
                .iter()
                .any(|(index, known)| *index == row.index && known.eq_ignore_ascii_case(first_arg))
            {
                selector.first_args.push(allowed);
            }
        } else {
            selector.set(self.row(command).ok_or(RuleError::Unknown)?, true);
        }
        selector.note(command, true);
        Ok(())
    }

    /// A command has its category's fate with all its subcommands; these also have that of their own categories.
    fn set_category(&self, selector: &mut Selector, category: Acl, on: bool) {
        let members = |row: &&Row| row.spec.acl.contains(category);
        self.table
            .rows()
            .iter()
            .filter(members)
            .for_each(|row| selector.set(row, on));
    }

    /// The row of a full name. Renamed commands keep their old name here, as in Redis.
    fn row(&self, name: &[u8]) -> Option<&Row> {
        let is = |row: &&Row| row.spec.name.as_bytes().eq_ignore_ascii_case(name);
        self.table.rows().iter().find(is)
    }
}

fn hash_of(rule: &[u8]) -> Result<Hash, RuleError> {
    match rule {
        [b'>' | b'<', password @ ..] => Ok(Hash::of(password)),
        [_, digits @ ..] => Hash::from_digits(digits).ok_or(RuleError::BadHash),
        [] => Err(RuleError::Syntax),
    }
}

/// `~pattern`, `%R~pattern`, `%W~pattern`, `%RW~pattern`.
fn add_pattern(selector: &mut Selector, rule: &[u8]) -> Result<(), RuleError> {
    if selector.all_keys {
        return Err(RuleError::AfterAllKeys);
    }
    let (mut access, mut at): (Access, usize) = (0, 1);
    if rule.first() == Some(&b'~') {
        access = READ | WRITE;
    } else {
        while let Some(letter) = rule.get(at) {
            at += 1;
            access |= match letter {
                b'R' | b'r' if access & READ == 0 => READ,
                b'W' | b'w' if access & WRITE == 0 => WRITE,
                b'~' if access != 0 => break,
                _ => return Err(RuleError::Syntax),
            };
        }
    }
    let pattern = rule.get(at..).unwrap_or_default();
    if access == 0 || has_blanks(pattern) {
        return Err(RuleError::Syntax);
    }
    let mut known = selector.patterns.iter_mut();
    match known.find(|known| known.pattern == pattern) {
        Some(known) => known.access |= access,
        None => selector.patterns.push(KeyPattern {
            access,
            pattern: pattern.to_vec(),
        }),
    }
    Ok(())
}

impl Selector {
    fn set_all(&mut self, on: bool, table: &Table) {
        self.commands = vec![if on { u64::MAX } else { 0 }; table.rows().len().div_ceil(64)];
        (self.all_commands, self.from_all) = (on, on);
        self.rules.clear();
        self.first_args.clear();
    }

    /// Sets the bits of a row and of its subcommands.
    fn set(&mut self, row: &Row, on: bool) {
        let subcommands = row.subcommands.iter().map(|(_, index)| *index);
        for index in std::iter::once(row.index).chain(subcommands) {
            if let Some(word) = self.commands.get_mut(index / 64) {
                let bit = 1 << (index % 64);
                *word = if on { *word | bit } else { *word & !bit };
            }
        }
        self.first_args.retain(|(index, _)| *index != row.index);
        self.all_commands &= on;
    }

    /// Notes a rule of commands for telling: it takes the place of what it makes void.
    fn note(&mut self, rule: &[u8], on: bool) {
        let rule = rule.to_ascii_lowercase();
        self.rules.retain(|known| {
            let known = &known[1..];
            let is_below = known.strip_prefix(&*rule).and_then(<[u8]>::first) == Some(&b'|');
            known != rule && !is_below
        });
        let sign = if on { b'+' } else { b'-' };
        self.rules.push([&[sign], &*rule].concat());
    }

    /// The rules of its commands, as ACL GETUSER tells them.
    pub fn told_commands(&self) -> Vec<u8> {
        let first: &[u8] = if self.from_all { b"+@all" } else { b"-@all" };
        let rules = self.rules.iter().map(Vec::as_slice);
        let words: Vec<&[u8]> = std::iter::once(first).chain(rules).collect();
        words.join(&b' ')
    }

    /// Its key patterns.
    pub fn told_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let told = |known: &KeyPattern| {
            let sign: &[u8] = match known.access {
                READ => b"%R~",
                WRITE => b"%W~",
                _ => b"~",
            };
            [sign, &*known.pattern].concat()
        };
        let words: Vec<Vec<u8>> = self.patterns.iter().map(told).collect();
        words.join(&b' ')
    }

    /// Its channel patterns.
    pub fn told_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let told = |channel: &Vec<u8>| [b"&", channel.as_slice()].concat();
        let words: Vec<Vec<u8>> = self.channels.iter().map(told).collect();
        words.join(&b' ')
    }

    /// All of it as one text of rules.
    fn told(&self) -> Vec<u8> {
        let mut words = Vec::new();
        let keys = self.told_keys();
        if !keys.is_empty() {
            words.push(keys);
        }
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        let channels = self.told_channels();
        if !channels.is_empty() {
            words.push(channels);
        }
        words.push(self.told_commands());
        words.join(&b' ')
    }
}

impl User {
    /// Its flags as ACL GETUSER tells them.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        flags.push(if self.skip_sanitize {
            "skip-sanitize-payload"
        } else {
            "sanitize-payload"
        });
        flags
    }

    /// The rules that make this user, as one text.
    pub fn told(&self) -> Vec<u8> {
        let flags = self
            .flags()
            .into_iter()
            .map(|flag| flag.as_bytes().to_vec());
        let passwords = self
            .passwords
            .iter()
            .map(|hash| [b"#", hash.digits()].concat());
        let root = std::iter::once(self.root.told());
        let selectors = self
            .selectors
            .iter()
            .map(|selector| [b"(", &*selector.told(), b")"].concat());
        let words: Vec<Vec<u8>> = flags
            .chain(passwords)
            .chain(root)
            .chain(selectors)
            .collect();
        words.join(&b' ')
    }

    /// The same as a `user` line of a redis.conf.
    pub fn as_line(&self) -> UserLine {
        // No word of it has blanks but for selectors, which may come in several words.
        let words = self.told();
        UserLine {
            name: self.name.clone(),
            rules: words.split(|b| *b == b' ').map(<[u8]>::to_vec).collect(),
        }
    }

    /// The line of ACL LIST and of an ACL file.
    pub fn line(&self) -> Vec<u8> {
        [b"user ", &*self.name, b" ", &*self.told()].concat()
    }
}
