//! Linearizability of the calls on one object (Wing and Gong 1993, with Lowe's memory of what has been tried).
//!
//! A history is linearizable if each call can be given one instant between its begin and its end such that the calls, in the
//! order of these instants, do what the object's model says.
//!
//! ```text
//!   A  |--- set 1 ---|                 set 1, get -> 1, set 2: fine
//!   B        |--- get -> 1 ---|        get -> 2 here would need set 2 before it, which has not begun
//!   C                            |--- set 2 ---|
//! ```
//! A call whose reply was lost may have happened or not; if the node that it was sent to has crashed, not after the crash.
//!
//! The search goes depth first: which call may come next is decided by the earliest end among those that must still come. A
//! pair of (calls that have come, state) is visited once. Histories of some dozens of calls by a handful of clients take
//! microseconds; the worst case is exponential, so there is a bound, and a history beyond it is not judged.

use std::collections::HashSet;
use std::hash::Hash;

/// Pairs that are tried for one history.
const TRIED_MAX: usize = 200_000;

/// What an object does, one call after the other.
pub(crate) trait Model {
    /// What it holds.
    type State: Clone + Eq + Hash;
    /// A call.
    type Op;
    /// What a call returns.
    type Out;

    /// The states in which the object may be after a call that returned `out` (or nobody knows what); none if it cannot
    /// have returned that.
    fn step(state: &Self::State, op: &Self::Op, out: Option<&Self::Out>) -> Vec<Self::State>;
}

/// One call. Times are numbers of a common order.
#[derive(Clone, Debug)]
pub(crate) struct Call<Op, Out> {
    /// What was asked.
    pub(crate) op: Op,
    /// What was answered; nothing if the reply was lost.
    pub(crate) out: Option<Out>,
    /// When it began.
    pub(crate) begin: u64,
    /// When it ended at the latest; a lost reply tells no end, but a crash does.
    pub(crate) end: Option<u64>,
}

impl<Op, Out> Call<Op, Out> {
    /// Whether it has happened for certain.
    fn is_certain(&self) -> bool {
        self.out.is_some()
    }
}

/// What has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is such an order.
    Linear,
    /// There is none.
    Broken,
    /// The search was given up.
    Unknown,
}

/// Judges the calls of one object that begins as `state`.
pub(crate) fn judge<M: Model>(state: M::State, calls: &[Call<M::Op, M::Out>]) -> Verdict {
    let mut search = Search::<M> {
        calls,
        done: vec![0; calls.len().div_ceil(64)],
        tried: HashSet::new(),
        given_up: false,
    };
    if search.goes_on(&state, 0) {
        Verdict::Linear
    } else if search.given_up {
        Verdict::Unknown
    } else {
        Verdict::Broken
    }
}

/// Calls that have come, as bits.
type Done = Vec<u64>;

struct Search<'a, M: Model> {
    calls: &'a [Call<M::Op, M::Out>],
    done: Done,
    tried: HashSet<(Done, M::State)>,
    given_up: bool,
}

impl<M: Model> Search<'_, M> {
    fn is_done(&self, at: usize) -> bool {
        self.done
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn flip(&mut self, at: usize) {
        if let Some(word) = self.done.get_mut(at / 64) {
            *word ^= 1 << (at % 64);
        }
    }

    /// Whether the rest can come in some order; `latest` is the latest begin of what has come.
    fn goes_on(&mut self, state: &M::State, latest: u64) -> bool {
        let left = |at: &usize| !self.is_done(*at);
        let rest: Vec<usize> = (0..self.calls.len()).filter(left).collect();
        let certain = rest.iter().filter_map(|at| self.calls.get(*at));
        let certain: Vec<_> = certain.filter(|call| call.is_certain()).collect();
        if certain.is_empty() {
            return true;
        }
        if self.tried.len() >= TRIED_MAX {
            self.given_up = true;
            return false;
        }
        if !self.tried.insert((self.done.clone(), state.clone())) {
            return false;
        }
        let first_end = certain.iter().filter_map(|call| call.end).min();
        for at in rest {
            let Some(call) = self.calls.get(at) else {
                continue;
            };
            // It must begin before any that must still come has ended, and end after all that have come have begun.
            let too_late = first_end.is_some_and(|end| call.begin > end);
            let too_early = call.end.is_some_and(|end| end < latest);
            if too_late || too_early {
                continue;
            }
            let latest = latest.max(call.begin);
            for next in M::step(state, &call.op, call.out.as_ref()) {
                self.flip(at);
                if self.goes_on(&next, latest) {
                    return true;
                }
                self.flip(at);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Model, Verdict, judge};

    struct Register;

    impl Model for Register {
        type State = i64;
        /// `Some`: set; `None`: get.
        type Op = Option<i64>;
        type Out = i64;

        fn step(state: &i64, op: &Option<i64>, out: Option<&i64>) -> Vec<i64> {
            match (op, out) {
                (Some(value), _) => vec![*value],
                (None, Some(seen)) if seen != state => vec![],
                (None, _) => vec![*state],
            }
        }
    }

    /// "begin end set 1" or "begin end get 1" or "begin ? set 1" (a lost reply), one a line.
    fn history(text: &str) -> Vec<Call<Option<i64>, i64>> {
        let call = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = words[3].parse().unwrap();
            let end = words[1].trim_end_matches('?').parse().ok();
            Call {
                op: (words[2] == "set").then_some(value),
                out: (!words[1].ends_with('?')).then_some(value),
                begin: words[0].parse().unwrap(),
                end,
            }
        };
        text.split(',').map(call).collect()
    }

    #[test]
    fn planted_violations_are_found_and_nothing_else() {
        use Verdict::{Broken, Linear};
        for (text, verdict) in [
            ("1 2 set 1, 3 4 get 1", Linear),
            ("1 2 set 1, 3 4 get 0", Broken),
            ("1 9 set 1, 3 4 get 0, 5 6 get 1", Linear),
            ("1 9 set 1, 3 4 get 1, 5 6 get 0", Broken),
            ("1 5 set 1, 2 6 set 2, 7 8 get 1", Linear),
            ("1 5 set 1, 2 6 set 2, 7 8 get 2, 9 10 get 1", Broken),
            // A lost reply: done late, never, but not undone.
            ("1 ? set 1, 2 3 get 0, 8 9 get 1", Linear),
            ("1 ? set 1, 2 3 get 0, 8 9 get 0", Linear),
            ("1 ? set 1, 2 3 get 1, 8 9 get 0", Broken),
            // Lost by a crash at 5: not done after it.
            ("1 5? set 1, 6 7 get 0, 8 9 get 1", Broken),
            ("1 5? set 1, 6 7 get 1, 8 9 get 1", Linear),
            ("1 5? set 1, 6 7 get 0, 8 9 get 0", Linear),
        ] {
            assert_eq!(judge::<Register>(0, &history(text)), verdict, "{text}");
        }
    }

    #[test]
    fn a_search_that_explodes_is_given_up() {
        let mut text: Vec<String> = (0..40).map(|n| format!("1 100 set {n}")).collect();
        text.push("101 102 get 99".to_owned());
        let calls = history(&text.join(","));
        assert_eq!(judge::<Register>(0, &calls), Verdict::Unknown);
    }
}
