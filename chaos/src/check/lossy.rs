//! An object that a crash may take back to what it was a while ago: what is certain to be on the disk by then stays, of what
//! came later a first part is there.
//!
//! ```text
//!   calls     a ── b ── c ── d ── CRASH          after it the object is as after b, or c, or d:
//!   on disk   a    b                             never as after a, and never as after b and d without c
//! ```

use std::marker::PhantomData;

use crate::check::linear::Model;

/// A call, or a crash.
#[derive(Clone, Debug)]
pub(crate) enum Event<Op> {
    /// A call; whether the next crash is certain not to take it back.
    Call(Op, bool),
    /// A crash.
    Crash,
}

/// See the module's head.
pub(crate) struct Lossy<M>(PhantomData<M>);

impl<M: Model> Model for Lossy<M> {
    /// What is there, and what a crash may leave.
    type State = (M::State, Vec<M::State>);
    type Op = Event<M::Op>;
    type Out = M::Out;

    fn step((now, left): &Self::State, op: &Self::Op, out: Option<&M::Out>) -> Vec<Self::State> {
        let (op, is_kept) = match op {
            Event::Call(op, is_kept) => (op, *is_kept),
            Event::Crash => {
                let one = |state: &M::State| (state.clone(), vec![state.clone()]);
                return left.iter().map(one).collect();
            }
        };
        let with = |next: M::State| {
            let mut left = if is_kept { Vec::new() } else { left.clone() };
            if !left.contains(&next) {
                left.push(next.clone());
            }
            (next, left)
        };
        M::step(now, op, out).into_iter().map(with).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Lossy};
    use crate::check::linear::{Call, Verdict, judge};
    use crate::check::values::{Op, Value, Values};
    use protocol::answer::Answer;

    #[test]
    fn a_crash_takes_back_what_came_last_and_nothing_else() {
        let text = |n: i64| n.to_string().into_bytes();
        // Four times one more, of which the first two are on the disk; then a crash, and a look.
        let judged = |seen: Option<i64>| {
            let mut calls: Vec<_> = (1..=4)
                .map(|n| Call {
                    op: Event::Call(Op::IncrBy(1), n <= 2),
                    out: Some(Answer::Int(n)),
                    begin: n as u64 * 10,
                    end: Some(n as u64 * 10 + 1),
                })
                .collect();
            calls.push(Call {
                op: Event::Crash,
                out: Some(Answer::Null),
                begin: 50,
                end: Some(50),
            });
            calls.push(Call {
                op: Event::Call(Op::Get, false),
                out: Some(seen.map_or(Answer::Null, |n| Answer::Bulk(text(n)))),
                begin: 60,
                end: Some(61),
            });
            judge::<Lossy<Values>>((Value::None, vec![Value::None]), &calls)
        };
        for seen in 2..=4 {
            assert_eq!(judged(Some(seen)), Verdict::Linear, "{seen}");
        }
        for seen in [None, Some(1), Some(5)] {
            assert_eq!(judged(seen), Verdict::Broken, "{seen:?}");
        }
    }
}
