//! What was found: printed with all that is needed to repeat it, then counted by command and
//! shape, so that one bug that shows a thousand times is one line.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use protocol::answer::Answer;

use super::catalogue::Op;
use super::compare::Mismatch;
use crate::text;

/// Requests remembered per key.
const HISTORY_MAX: usize = 6;
/// More members than these, and those that only one side has are shown as well.
const FEW: usize = 8;
/// Differences of one shape that are printed in full.
const PRINTED_MAX: u64 = 3;
/// Characters of an error that make its shape.
const SHAPE_CHARS_MAX: usize = 70;

/// Where in the run something happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'m> {
    /// Number of the request.
    pub(super) op: u64,
    /// Which connection.
    pub(super) connection: &'m str,
}

/// A request's number, its connection, and the request.
type Touch = (u64, String, Rc<Op>);

/// The last requests per key.
#[derive(Debug, Default)]
pub(super) struct History {
    by_key: HashMap<Vec<u8>, VecDeque<Touch>>,
}

impl History {
    /// Remembers that a request touched its keys.
    pub(super) fn note(&mut self, moment: Moment<'_>, op: &Rc<Op>) {
        for key in op.key_words() {
            let list = match self.by_key.get_mut(key) {
                Some(list) => list,
                None => self.by_key.entry(key.to_vec()).or_default(),
            };
            if list.len() >= HISTORY_MAX {
                list.pop_front();
            }
            list.push_back((moment.op, moment.connection.to_owned(), Rc::clone(op)));
        }
    }

    /// The last requests that touched any of the keys, oldest first.
    pub(super) fn of<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<String> {
        let mut found: BTreeMap<u64, String> = BTreeMap::new();
        for list in keys.filter_map(|key| self.by_key.get(key)) {
            for (op, connection, request) in list {
                let line = format!(
                    "      #{op} on {connection}: {}",
                    text::request_line(&request.words)
                );
                found.insert(*op, line);
            }
        }
        let skip = found.len().saturating_sub(2 * HISTORY_MAX);
        found.into_values().skip(skip).collect()
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    seed: u64,
    groups: BTreeMap<(String, String), Group>,
    total: u64,
    /// Prints nothing: for the self-test.
    quiet: bool,
    /// The first one.
    pub(super) first: Option<String>,
    /// Number of the request of the first one.
    pub(super) first_op: u64,
}

#[derive(Debug)]
struct Group {
    count: u64,
    first_op: u64,
    example: String,
}

impl Findings {
    /// Nothing found yet.
    pub(super) fn new(seed: u64, quiet: bool) -> Self {
        Self {
            seed,
            quiet,
            ..Self::default()
        }
    }

    /// How many differences there were.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Counts a difference, and prints it with what was before unless many of its shape were.
    pub(super) fn add(
        &mut self,
        moment: Moment<'_>,
        mismatch: &Mismatch,
        before: impl FnOnce() -> Vec<String>,
    ) {
        let Mismatch {
            op,
            subject,
            oracle,
            why,
        } = mismatch;
        let request = text::request_line(&op.words);
        self.total += 1;
        if self.first.is_none() {
            self.first = Some(format!(
                "{request} -> {} / {}",
                text::answer_line(subject),
                text::answer_line(oracle)
            ));
            self.first_op = moment.op;
        }
        let key = (op.name.clone(), shape(why, subject, oracle));
        let group = self.groups.entry(key).or_insert_with(|| Group {
            count: 0,
            first_op: moment.op,
            example: request.clone(),
        });
        group.count += 1;
        if group.count > PRINTED_MAX || self.quiet {
            return;
        }
        println!(
            "DIFFERENCE ({why}) seed {} op #{} on {}",
            self.seed, moment.op, moment.connection
        );
        println!("    request: {request}");
        println!("    subject: {}", text::answer_line(subject));
        println!("    oracle:  {}", text::answer_line(oracle));
        if let (Answer::Array(ours), Answer::Array(theirs)) = (subject, oracle)
            && ours.len().max(theirs.len()) > FEW
        {
            let only = |own: &[Answer], other: &[Answer]| {
                let own = own.iter().filter(|member| !other.contains(member));
                text::answer_line(&Answer::Array(own.cloned().collect()))
            };
            println!("    only of the subject: {}", only(ours, theirs));
            println!("    only of the oracle:  {}", only(theirs, ours));
        }
        for line in before() {
            println!("{line}");
        }
    }

    /// One line per command and shape, the most frequent first.
    pub(super) fn summary(&self) -> String {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        let mut out = String::new();
        for ((name, shape), group) in groups {
            let example: String = group.example.chars().take(160).collect();
            out.push_str(&format!(
                "{:>8}  {name}: {shape}\n          first at #{}: {example}\n",
                group.count, group.first_op
            ));
        }
        out
    }
}

fn shape(why: &str, subject: &Answer, oracle: &Answer) -> String {
    let (ours, theirs) = (shape_of(subject), shape_of(oracle));
    if ours == theirs {
        format!("{why} differs ({ours})")
    } else {
        format!("{ours} instead of {theirs}")
    }
}

/// The type of a reply; of an error its text without what is quoted.
fn shape_of(answer: &Answer) -> String {
    let name = match answer {
        Answer::Error(text) => {
            let text = String::from_utf8_lossy(text);
            let masked: Vec<_> = text
                .split('\'')
                .enumerate()
                .map(|(i, part)| if i % 2 == 1 { "_" } else { part })
                .collect();
            return masked.join("'").chars().take(SHAPE_CHARS_MAX).collect();
        }
        Answer::Simple(text) => return format!("+{}", String::from_utf8_lossy(text)),
        Answer::Int(_) => "integer",
        Answer::Bulk(_) => "string",
        Answer::Null => "null",
        Answer::NullArray => "null array",
        Answer::Array(_) => "array",
        Answer::Map(_) => "map",
        Answer::Set(_) => "set",
        Answer::Push(_) => "push",
        Answer::Double(_) => "double",
        Answer::Bool(_) => "boolean",
        Answer::Verbatim { .. } => "verbatim string",
        Answer::BigNumber(_) => "big number",
        Answer::Attribute { .. } => "attribute",
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Findings, History, Mismatch, Moment, Op, Rc};
    use crate::differential::rule::Rule;

    #[test]
    fn one_bug_is_one_line() {
        let mut findings = Findings::new(1, true);
        for n in 0..5_i64 {
            let words = vec![b"INCR".to_vec(), b"k".to_vec()];
            let op = Op {
                name: "INCR".into(),
                words,
                keys: vec![1],
                marks: vec![],
                rule: Rule::Exact,
                queued: vec![],
            };
            let mismatch = Mismatch {
                op: Rc::new(op),
                subject: Answer::Int(n),
                oracle: Answer::Int(n + 1),
                why: "value",
            };
            let mut history = History::default();
            let moment = Moment {
                op: n.unsigned_abs(),
                connection: "0",
            };
            history.note(moment, &mismatch.op);
            assert_eq!(history.of([b"k".as_slice()].into_iter()).len(), 1);
            findings.add(moment, &mismatch, Vec::new);
        }
        assert_eq!(findings.total(), 5);
        assert_eq!(findings.summary().lines().count(), 2);
        assert!(
            findings
                .summary()
                .contains("5  INCR: value differs (integer)")
        );
    }
}
