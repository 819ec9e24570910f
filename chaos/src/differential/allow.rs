//! Differences that are intended: a short file, each line with its reason.
//!
//! ```text
//!   command pattern | pattern of the subject's reply | pattern of the oracle's reply | reason
//!   OBJECT ENCODING * | "listpack" | "hashtable" | small sets are compact since 7.2
//! ```
//!
//! A command with the name of a scene (`tracking: EVAL*`) is allowed in scenes of that name only.
//! `*` stands for any text, `?` for one character; the command is compared without regard to
//! case; replies are written as in text.rs. `@doubles` for both replies: equal but for the digits
//! in which doubles are written; `@members`: arrays of the same elements in another order; `@last`: arrays that differ in the
//! last element. `#` begins a comment.

use super::compare::{Mismatch, same_but_last, same_doubles, same_members};
use crate::text;

/// Stands for both replies.
const DOUBLES: &str = "@doubles";
/// Stands for both replies.
const MEMBERS: &str = "@members";
/// The same for arrays that differ in the last element.
const LAST: &str = "@last";
/// Fields of a line.
const FIELDS: usize = 4;
/// Differences that one file may allow: more are no exceptions any more.
pub(super) const RULES_MAX: usize = 60;

/// Why a file is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum AllowError {
    /// A line, by number, that has not four fields.
    Fields(usize),
    /// A line without reason.
    Reason(usize),
    /// More lines than a list of exceptions should have.
    TooMany,
}

impl std::fmt::Display for AllowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fields(line) => write!(f, "line {line}: four fields separated by | are needed"),
            Self::Reason(line) => write!(f, "line {line}: the reason is missing"),
            Self::TooMany => write!(f, "more than {RULES_MAX} lines"),
        }
    }
}

/// The file.
#[derive(Debug, Default)]
pub(super) struct AllowList {
    rules: Vec<Allowed>,
}

#[derive(Debug)]
struct Allowed {
    command: String,
    subject: String,
    oracle: String,
    reason: String,
    uses: u64,
}

impl AllowList {
    /// Reads a file's text.
    pub(super) fn parse(text: &str) -> Result<Self, AllowError> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<_> = line.splitn(FIELDS, " | ").map(str::trim).collect();
            let [command, subject, oracle, reason] = fields[..] else {
                return Err(AllowError::Fields(index + 1));
            };
            if reason.is_empty() {
                return Err(AllowError::Reason(index + 1));
            }
            rules.push(Allowed {
                command: command.to_ascii_uppercase(),
                subject: subject.to_owned(),
                oracle: oracle.to_owned(),
                reason: reason.to_owned(),
                uses: 0,
            });
        }
        if rules.len() > RULES_MAX {
            return Err(AllowError::TooMany);
        }
        Ok(Self { rules })
    }

    /// True if a line allows this difference.
    pub(super) fn allows(&mut self, mismatch: &Mismatch) -> bool {
        let command = text::request_line(&mismatch.op.words).to_ascii_uppercase();
        // What a scene in lock step has found can be allowed there alone.
        let scene = mismatch
            .op
            .name
            .split_once(": ")
            .map_or("", |(scene, _)| scene);
        let in_scene = format!("{}: {command}", scene.to_ascii_uppercase());
        let subject = text::answer_line(&mismatch.subject);
        let oracle = text::answer_line(&mismatch.oracle);
        let doubles = same_doubles(&mismatch.subject, &mismatch.oracle);
        let members = same_members(&mismatch.subject, &mismatch.oracle);
        let last = same_but_last(&mismatch.subject, &mismatch.oracle);
        let allows = |rule: &&mut Allowed| {
            let replies = match rule.subject.as_str() {
                DOUBLES => doubles,
                MEMBERS => members,
                LAST => last,
                pattern => glob(pattern, &subject) && glob(&rule.oracle, &oracle),
            };
            let command = [&command, &in_scene]
                .iter()
                .any(|command| glob(&rule.command, command));
            replies && command
        };
        self.rules
            .iter_mut()
            .find(allows)
            .map(|rule| rule.uses += 1)
            .is_some()
    }

    /// Reasons and how often each was used.
    pub(super) fn uses(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.rules
            .iter()
            .map(|rule| (rule.command.as_str(), rule.reason.as_str(), rule.uses))
    }
}

/// Matches `*` and `?`, with backtracking to the last `*` only.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::{AllowError, AllowList, Mismatch, RULES_MAX, glob};
    use crate::differential::catalogue::Op;
    use crate::differential::rule::Rule;
    use protocol::answer::Answer;
    use std::rc::Rc;

    fn mismatch(line: &str, subject: &str, oracle: &str) -> Mismatch {
        let (name, line) = match line.split_once(": ") {
            Some((scene, line)) => (format!("{scene}: x"), line),
            None => (String::new(), line),
        };
        let words = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let op = Op {
            name,
            words,
            keys: vec![],
            marks: vec![],
            rule: Rule::Exact,
            queued: vec![],
        };
        let bulk = |text: &str| Answer::Bulk(text.into());
        Mismatch {
            op: Rc::new(op),
            subject: bulk(subject),
            oracle: bulk(oracle),
            why: "value",
        }
    }

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "abbc"),
            ("a?c", "abc"),
            ("*b*", "abc"),
            ("**", "x"),
            ("a*b*c", "aXbYbc"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a?", "a"),
            ("a*c", "abd"),
            ("?", "ab"),
        ] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn lines_allow() {
        let text = "# comment\n\nOBJECT ENCODING * | \"listpack\" | \"hashtable\" | compact\nZ* | @doubles | @doubles | digits\n";
        let mut list = AllowList::parse(text).unwrap();
        let mut scene = AllowList::parse("pubsub: GET* | * | * | in that scene").unwrap();
        assert!(scene.allows(&mismatch("pubsub: get k", "1", "2")));
        assert!(!scene.allows(&mismatch("tracking: get k", "1", "2")));
        assert!(!scene.allows(&mismatch("get k", "1", "2")));
        assert!(list.allows(&mismatch("object encoding k", "listpack", "hashtable")));
        assert!(!list.allows(&mismatch("object encoding k", "hashtable", "listpack")));
        assert!(!list.allows(&mismatch("GET k", "listpack", "hashtable")));
        assert!(list.allows(&mismatch("zscore k m", "0.1", "0.10000000000000001")));
        assert!(!list.allows(&mismatch("zscore k m", "0.1", "0.2")));
        assert_eq!(
            list.uses().map(|(.., uses)| uses).collect::<Vec<_>>(),
            [1, 1]
        );
    }

    #[test]
    fn bad_files() {
        assert_eq!(
            AllowList::parse("a | b | c").unwrap_err(),
            AllowError::Fields(1)
        );
        assert_eq!(
            AllowList::parse("\na | b | c | ").unwrap_err(),
            AllowError::Fields(2)
        );
        assert_eq!(AllowList::parse("a | b | c |  | ").map(|_| ()), Ok(()));
        let long = "a | b | c | d\n".repeat(RULES_MAX + 1);
        assert_eq!(AllowList::parse(&long).unwrap_err(), AllowError::TooMany);
    }
}
