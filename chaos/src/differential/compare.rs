//! Two replies and a rule: do they agree?
//!
//! Errors are compared first and exactly: code and text are what clients match on. Types of the
//! protocol count, too: a set is not an array, a double is not a string.

use std::collections::HashSet;
use std::rc::Rc;

use protocol::answer::Answer;
use protocol::number;

use super::catalogue::Op;
use super::rule::{Pick, Rule};

/// Two clocks that are read one after the other, in one batch.
const SECONDS_APART_MAX: i64 = 1;
const MILLISECONDS_APART_MAX: i64 = 100;
/// Milliseconds per second.
const MS: i64 = 1000;
/// Members of HELLO that differ between any two servers.
const HELLO_OWN: [&[u8]; 3] = [b"version", b"id", b"modules"];

/// Two replies that should agree and do not.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The request: of EXEC, the queued one.
    pub(super) op: Rc<Op>,
    pub(super) subject: Answer,
    pub(super) oracle: Answer,
    /// What the rule found.
    pub(super) why: &'static str,
}

/// All replies of a batch, of both sides, in the order of its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'b> {
    pub(super) ops: &'b [Rc<Op>],
    pub(super) subject: &'b [Answer],
    pub(super) oracle: &'b [Answer],
    /// How far apart in time the two servers may have run one request.
    pub(super) slack_ms: i64,
}

impl Batch<'_> {
    /// Compares the replies to request `at`; nothing found is agreement.
    pub(super) fn compare(&self, at: usize) -> Vec<Mismatch> {
        let (Some(op), Some(subject), Some(oracle)) =
            (self.ops.get(at), self.subject.get(at), self.oracle.get(at))
        else {
            return Vec::new();
        };
        if op.rule == Rule::Exec
            && let (Answer::Array(ours), Answer::Array(theirs)) = (subject, oracle)
            && ours.len() == theirs.len()
            && ours.len() == op.queued.len()
        {
            let inner = Batch {
                ops: &op.queued,
                subject: ours,
                oracle: theirs,
                slack_ms: self.slack_ms,
            };
            return (0..ours.len()).flat_map(|at| inner.compare(at)).collect();
        }
        let why = self.disagreement(op, at, subject, oracle);
        why.map(|why| Mismatch {
            op: Rc::clone(op),
            subject: subject.clone(),
            oracle: oracle.clone(),
            why,
        })
        .into_iter()
        .collect()
    }

    fn disagreement(
        &self,
        op: &Op,
        at: usize,
        subject: &Answer,
        oracle: &Answer,
    ) -> Option<&'static str> {
        if subject.is_error() || oracle.is_error() {
            return (subject != oracle).then_some("error");
        }
        let before = |side: &'_ [Answer], back: usize| {
            at.checked_sub(back).and_then(|at| side.get(at)).cloned()
        };
        match op.rule {
            Rule::Exact | Rule::Exec => (subject != oracle).then_some("value"),
            Rule::Bag => bag(subject, oracle),
            Rule::PairBag => pair_bag(subject, oracle),
            Rule::AlphaBag if subject != oracle && has_nul(oracle) => bag(subject, oracle),
            Rule::AlphaBag => (subject != oracle).then_some("order or members"),
            Rule::Length => length(subject, oracle),
            Rule::Shape => (!same_shape(subject, oracle)).then_some("type"),
            Rule::Positive => positive(subject, oracle),
            Rule::Seconds => near(subject, oracle, SECONDS_APART_MAX + self.slack_ms / MS),
            Rule::Milliseconds => near(subject, oracle, MILLISECONDS_APART_MAX + self.slack_ms),
            Rule::Hello => hello(subject, oracle),
            Rule::Pick(pick) => {
                let wanted = requested_count(op);
                choice(pick, wanted, before(self.subject, 1)?, subject)
                    .or_else(|| {
                        choice(pick, wanted, before(self.oracle, 1)?, oracle)
                            .map(|_| "the oracle's choice")
                    })
                    .or_else(|| length(subject, oracle))
                    .or_else(|| (!same_shape(subject, oracle)).then_some("type"))
            }
            Rule::Remains => remains(before(self.subject, 2)?, before(self.subject, 1)?, subject)
                .or_else(|| length(subject, oracle)),
        }
    }
}

/// Members of an aggregate, and whether both are aggregates of one kind.
fn members<'a>(subject: &'a Answer, oracle: &'a Answer) -> Option<(&'a [Answer], &'a [Answer])> {
    match (subject, oracle) {
        (Answer::Array(a), Answer::Array(b)) | (Answer::Set(a), Answer::Set(b)) => Some((a, b)),
        _ => None,
    }
}

/// A text that sorts members; only equality matters.
fn sorted<T: std::fmt::Debug>(items: impl Iterator<Item = T>) -> Vec<String> {
    let mut texts: Vec<_> = items.map(|item| format!("{item:?}")).collect();
    texts.sort_unstable();
    texts
}

fn bag(subject: &Answer, oracle: &Answer) -> Option<&'static str> {
    if subject == oracle {
        return None;
    }
    match members(subject, oracle) {
        None => Some("type"),
        Some((ours, theirs)) if ours.len() != theirs.len() => Some("number of members"),
        Some((ours, theirs)) => (sorted(ours.iter()) != sorted(theirs.iter())).then_some("members"),
    }
}

fn pair_bag(subject: &Answer, oracle: &Answer) -> Option<&'static str> {
    let (ours, theirs) = match (subject, oracle) {
        (Answer::Map(ours), Answer::Map(theirs)) => (sorted(ours.iter()), sorted(theirs.iter())),
        (Answer::Array(ours), Answer::Array(theirs)) => {
            (sorted(ours.chunks(2)), sorted(theirs.chunks(2)))
        }
        _ => return (subject != oracle).then_some("type"),
    };
    if ours.len() != theirs.len() {
        return Some("number of pairs");
    }
    (ours != theirs).then_some("pairs")
}

fn has_nul(answer: &Answer) -> bool {
    flat(answer)
        .iter()
        .any(|leaf| matches!(leaf, Answer::Bulk(bytes) if bytes.contains(&0)))
}

fn length(subject: &Answer, oracle: &Answer) -> Option<&'static str> {
    match members(subject, oracle) {
        Some((ours, theirs)) => (ours.len() != theirs.len()).then_some("number of members"),
        None => (!same_shape(subject, oracle)).then_some("type"),
    }
}

/// The same variants, and for aggregates the same of the first member.
fn same_shape(subject: &Answer, oracle: &Answer) -> bool {
    if std::mem::discriminant(subject) != std::mem::discriminant(oracle) {
        return false;
    }
    match members(subject, oracle) {
        Some(([ours, ..], [theirs, ..])) => same_shape(ours, theirs),
        _ => true,
    }
}

fn positive(subject: &Answer, oracle: &Answer) -> Option<&'static str> {
    match (subject, oracle) {
        (Answer::Int(ours), Answer::Int(theirs)) => (*ours <= 0 || *theirs <= 0).then_some("value"),
        _ => (subject != oracle).then_some("type"),
    }
}

fn near(subject: &Answer, oracle: &Answer, apart_max: i64) -> Option<&'static str> {
    match (subject, oracle) {
        (Answer::Int(ours), Answer::Int(theirs)) if *ours >= 0 && *theirs >= 0 => {
            (ours.abs_diff(*theirs) > apart_max.unsigned_abs()).then_some("time")
        }
        _ => (subject != oracle).then_some("value"),
    }
}

fn hello(subject: &Answer, oracle: &Answer) -> Option<&'static str> {
    let strip = |answer: &Answer| -> Vec<(Answer, Answer)> {
        let leaves = match answer {
            Answer::Map(pairs) => pairs.clone(),
            other => {
                let Answer::Array(items) = other else {
                    return Vec::new();
                };
                items
                    .chunks(2)
                    .filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone())))
                    .collect()
            }
        };
        let own = |key: &Answer| matches!(key, Answer::Bulk(name) if HELLO_OWN.contains(&name.as_slice()));
        leaves
            .into_iter()
            .map(|(key, value)| {
                if own(&key) {
                    (key, Answer::Null)
                } else {
                    (key, value)
                }
            })
            .collect()
    };
    if !same_shape(subject, oracle) {
        return Some("type");
    }
    (strip(subject) != strip(oracle)).then_some("fields")
}

/// How many were asked for: SRANDMEMBER key 3.
fn requested_count(op: &Op) -> Option<i64> {
    op.words.get(2).and_then(|word| number::parse_i64(word))
}

/// All strings and numbers of an answer in order, whatever the nesting.
fn flat(answer: &Answer) -> Vec<&Answer> {
    match answer {
        Answer::Array(items) | Answer::Set(items) | Answer::Push(items) => {
            items.iter().flat_map(flat).collect()
        }
        Answer::Map(pairs) => pairs
            .iter()
            .flat_map(|(key, value)| [flat(key), flat(value)])
            .flatten()
            .collect(),
        leaf => vec![leaf],
    }
}

/// What is wrong with a random choice from a collection.
fn choice(pick: Pick, wanted: Option<i64>, whole: Answer, picked: &Answer) -> Option<&'static str> {
    let width = if pick == Pick::Pairs { 2 } else { 1 };
    let whole: Vec<Vec<&Answer>> = flat(&whole).chunks(width).map(<[_]>::to_vec).collect();
    let known: HashSet<String> = whole.iter().map(|item| format!("{item:?}")).collect();
    let Some(wanted) = wanted else {
        return match picked {
            Answer::Null => (!whole.is_empty()).then_some("nothing chosen of a collection"),
            one => {
                (!known.contains(&format!("{:?}", [one]))).then_some("a choice that is no member")
            }
        };
    };
    // SPOP of a missing key replies with an empty set, so do all others.
    let picked: Vec<String> = flat(picked)
        .chunks(width)
        .map(|item| format!("{item:?}"))
        .collect();
    if picked.iter().any(|item| !known.contains(item)) {
        return Some("a choice that is no member");
    }
    let size = whole.len();
    let wanted_size = usize::try_from(wanted.unsigned_abs()).unwrap_or(usize::MAX);
    let expected = match wanted {
        _ if size == 0 => 0,
        ..0 => wanted_size,
        _ => wanted_size.min(size),
    };
    if picked.len() != expected {
        return Some("number of choices");
    }
    let distinct = picked.iter().collect::<HashSet<_>>().len();
    (wanted >= 0 && distinct != picked.len()).then_some("a member chosen twice")
}

/// What SPOP took and what remains must make up what was there.
fn remains(whole: Answer, taken: Answer, rest: &Answer) -> Option<&'static str> {
    if whole.is_error() || taken.is_error() {
        return None;
    }
    let leaves = |answer: &Answer| {
        sorted(
            flat(answer)
                .into_iter()
                .filter(|leaf| **leaf != Answer::Null),
        )
    };
    let mut together = [leaves(&taken), leaves(rest)].concat();
    together.sort_unstable();
    (together != leaves(&whole)).then_some("members lost or kept by SPOP")
}

/// True if two answers are the same but for doubles written with different digits: 0.1 and
/// 0.10000000000000001.
pub(super) fn same_doubles(subject: &Answer, oracle: &Answer) -> bool {
    match (subject, oracle) {
        (Answer::Array(a), Answer::Array(b)) | (Answer::Set(a), Answer::Set(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_doubles(a, b))
        }
        (Answer::Double(a), Answer::Double(b)) | (Answer::Bulk(a), Answer::Bulk(b)) => {
            a == b || double(a).is_some_and(|a| Some(a) == double(b))
        }
        _ => subject == oracle,
    }
}

fn double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Batch, Op, Pick, Rc, Rule, same_doubles};

    fn op(line: &str, rule: Rule) -> Rc<Op> {
        let words = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        Rc::new(Op {
            name: String::new(),
            words,
            keys: vec![],
            marks: vec![],
            rule,
            queued: vec![],
        })
    }

    fn bulk(text: &str) -> Answer {
        Answer::Bulk(text.into())
    }

    fn array(texts: &[&str]) -> Answer {
        Answer::Array(texts.iter().map(|text| bulk(text)).collect())
    }

    fn why(rule: Rule, subject: Answer, oracle: Answer) -> Option<&'static str> {
        let ops = [op("X", rule)];
        let batch = Batch {
            ops: &ops,
            subject: &[subject],
            oracle: &[oracle],
            slack_ms: 0,
        };
        batch.compare(0).pop().map(|mismatch| mismatch.why)
    }

    #[test]
    fn errors_and_types_count() {
        let error = |text: &str| Answer::Error(text.into());
        assert_eq!(why(Rule::Shape, error("ERR a"), error("ERR a")), None);
        assert_eq!(
            why(Rule::Shape, error("ERR a"), error("ERR b")),
            Some("error")
        );
        assert_eq!(why(Rule::Bag, error("ERR a"), array(&[])), Some("error"));
        assert_eq!(why(Rule::Exact, bulk("1"), Answer::Int(1)), Some("value"));
        assert_eq!(
            why(Rule::Exact, Answer::Null, Answer::NullArray),
            Some("value")
        );
        assert_eq!(
            why(Rule::Bag, Answer::Set(vec![]), array(&[])),
            Some("type")
        );
    }

    #[test]
    fn order_is_free_where_said() {
        assert_eq!(why(Rule::Bag, array(&["a", "b"]), array(&["b", "a"])), None);
        assert_eq!(
            why(Rule::Bag, array(&["a", "a"]), array(&["b", "a"])),
            Some("members")
        );
        assert_eq!(
            why(Rule::Bag, array(&["a"]), array(&["b", "a"])),
            Some("number of members")
        );
        assert_eq!(
            why(
                Rule::PairBag,
                array(&["a", "1", "b", "2"]),
                array(&["b", "2", "a", "1"])
            ),
            None
        );
        assert_eq!(
            why(
                Rule::PairBag,
                array(&["a", "2", "b", "1"]),
                array(&["b", "2", "a", "1"])
            ),
            Some("pairs")
        );
        assert_eq!(
            why(Rule::AlphaBag, array(&["a", "b"]), array(&["b", "a"])),
            Some("order or members")
        );
        assert_eq!(
            why(Rule::AlphaBag, array(&["a\0", "a"]), array(&["a", "a\0"])),
            None
        );
        assert_eq!(
            why(Rule::Length, array(&["a", "b"]), array(&["c", "a"])),
            None
        );
        assert_eq!(
            why(Rule::Length, array(&["a"]), array(&["c", "a"])),
            Some("number of members")
        );
    }

    #[test]
    fn times_may_be_a_little_apart() {
        let int = Answer::Int;
        assert_eq!(why(Rule::Seconds, int(100), int(101)), None);
        assert_eq!(why(Rule::Seconds, int(100), int(102)), Some("time"));
        assert_eq!(why(Rule::Seconds, int(-1), int(-2)), Some("value"));
        assert_eq!(why(Rule::Seconds, int(-1), int(0)), Some("value"));
        assert_eq!(why(Rule::Milliseconds, int(1000), int(1100)), None);
        assert_eq!(why(Rule::Milliseconds, int(1000), int(1101)), Some("time"));
        assert_eq!(why(Rule::Positive, int(1), int(2_147_483_647)), None);
        assert_eq!(why(Rule::Positive, int(0), int(1)), Some("value"));
    }

    fn picked(
        line: &str,
        pick: Pick,
        whole: &[&str],
        ours: Answer,
        theirs: Answer,
    ) -> Option<&'static str> {
        let ops = [op("SMEMBERS k", Rule::Bag), op(line, Rule::Pick(pick))];
        let (subject, oracle) = ([array(whole), ours], [array(whole), theirs]);
        Batch {
            ops: &ops,
            subject: &subject,
            oracle: &oracle,
            slack_ms: 0,
        }
        .compare(1)
        .pop()
        .map(|m| m.why)
    }

    #[test]
    fn random_choices() {
        let abc = ["a", "b", "c"];
        let members = |line, ours, theirs| picked(line, Pick::Members, &abc, ours, theirs);
        assert_eq!(members("SRANDMEMBER k", bulk("a"), bulk("c")), None);
        assert_eq!(
            members("SRANDMEMBER k", bulk("x"), bulk("c")),
            Some("a choice that is no member")
        );
        assert_eq!(
            members("SRANDMEMBER k", Answer::Null, bulk("c")),
            Some("nothing chosen of a collection")
        );
        assert_eq!(
            members("SRANDMEMBER k 2", array(&["a", "b"]), array(&["c", "a"])),
            None
        );
        assert_eq!(
            members("SRANDMEMBER k 2", array(&["a", "a"]), array(&["c", "a"])),
            Some("a member chosen twice")
        );
        assert_eq!(
            members("SRANDMEMBER k -2", array(&["a", "a"]), array(&["c", "a"])),
            None
        );
        assert_eq!(
            members("SRANDMEMBER k -2", array(&["a"]), array(&["c", "a"])),
            Some("number of choices")
        );
        assert_eq!(
            members("SRANDMEMBER k 9", array(&abc), array(&["c", "b", "a"])),
            None
        );
        let pairs = |ours, theirs| {
            picked(
                "HRANDFIELD k 1 WITHVALUES",
                Pick::Pairs,
                &["f", "1", "g", "2"],
                ours,
                theirs,
            )
        };
        assert_eq!(pairs(array(&["f", "1"]), array(&["g", "2"])), None);
        assert_eq!(
            pairs(array(&["f", "2"]), array(&["g", "2"])),
            Some("a choice that is no member")
        );
        let nested = Answer::Array(vec![array(&["f", "1"])]);
        assert_eq!(pairs(nested, array(&["f", "1"])), Some("number of members"));
    }

    #[test]
    fn spop_loses_nothing() {
        let ops = [
            op("SMEMBERS k", Rule::Bag),
            op("SPOP k", Rule::Pick(Pick::Members)),
            op("SMEMBERS k", Rule::Remains),
        ];
        let run = |rest: Answer| {
            let subject = [array(&["a", "b"]), bulk("a"), rest];
            let oracle = [array(&["b", "a"]), bulk("b"), array(&["a"])];
            Batch {
                ops: &ops,
                subject: &subject,
                oracle: &oracle,
                slack_ms: 0,
            }
            .compare(2)
            .pop()
            .map(|m| m.why)
        };
        assert_eq!(run(array(&["b"])), None);
        assert_eq!(run(array(&["a"])), Some("members lost or kept by SPOP"));
        assert_eq!(run(array(&[])), Some("members lost or kept by SPOP"));
    }

    #[test]
    fn exec_is_compared_member_by_member() {
        let queued = vec![op("SMEMBERS k", Rule::Bag), op("GET k", Rule::Exact)];
        let exec = Rc::new(Op {
            queued,
            ..Rc::into_inner(op("EXEC", Rule::Exec)).unwrap()
        });
        let ops = [exec];
        let reply = |set: &[&str], get: &str| Answer::Array(vec![array(set), bulk(get)]);
        let run = |ours: Answer, theirs: Answer| {
            Batch {
                ops: &ops,
                subject: &[ours],
                oracle: &[theirs],
                slack_ms: 0,
            }
            .compare(0)
        };
        assert!(run(reply(&["a", "b"], "1"), reply(&["b", "a"], "1")).is_empty());
        let found = run(reply(&["a", "b"], "1"), reply(&["b", "a"], "2"));
        assert_eq!(found[0].op.words[0], b"GET");
        assert_eq!(run(Answer::NullArray, reply(&[], "1")).len(), 1);
    }

    #[test]
    fn doubles_with_other_digits() {
        assert!(same_doubles(
            &array(&["m", "0.1"]),
            &array(&["m", "0.10000000000000001"])
        ));
        assert!(!same_doubles(&array(&["m", "0.1"]), &array(&["m", "0.2"])));
        assert!(!same_doubles(&bulk("a"), &bulk("b")));
    }
}
