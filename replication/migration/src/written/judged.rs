//! What the replies to a transaction tell.

use protocol::answer::Answer;

use super::pen::{About, Check, Transaction};
use super::script::{Ran, ran};

/// Keys that one transaction asks to be said again; with more, the rest is told as an error of the last.
const RESTATED_MAX: usize = 4096;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is there, all of it.
    Applied {
        /// Keys whose value there may not be what it is here.
        restates: Vec<(u8, Vec<u8>)>,
        /// What one of its requests was answered with.
        error: Option<String>,
    },
    /// It is there, but for a value that the old Redis does not take: it cannot have what is here.
    Unfit(String),
    /// None of it is there.
    Refused(String),
    /// Somebody else has written the position: it is read anew.
    Stale,
}

/// Judges a transaction by its replies.
pub fn judge(sent: &Transaction, replies: &[Answer]) -> Judged {
    if sent.is_script {
        return judge_script(sent, replies);
    }
    let [begun, queued @ .., done, watched] = replies else {
        return Judged::Refused("replies are missing".to_owned());
    };
    let refused = |answer: &Answer| match answer {
        Answer::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    let first = core::iter::once(begun).chain(queued).find_map(refused);
    match done {
        Answer::Array(replies) if let Some(why) = unfit(&sent.checks, replies) => {
            Judged::Unfit(why)
        }
        Answer::Array(replies) => Judged::Applied {
            restates: restates(&sent.checks, replies),
            // (A WATCH that is refused shows at the next transaction: the connection is made anew.)
            error: replies
                .iter()
                .find_map(refused)
                .or_else(|| refused(watched)),
        },
        Answer::Null | Answer::NullArray => Judged::Stale,
        done => {
            let why = first.or_else(|| refused(done));
            Judged::Refused(why.unwrap_or_else(|| "EXEC has no such answer".to_owned()))
        }
    }
}

/// The same of a script.
fn judge_script(sent: &Transaction, replies: &[Answer]) -> Judged {
    let said = |answer: &Answer| match answer {
        Answer::Error(text) => String::from_utf8_lossy(text).into_owned(),
        _ => "the script has no such answer".to_owned(),
    };
    match ran(replies) {
        Ran::Stale => Judged::Stale,
        Ran::Not(None) => Judged::Refused("replies are missing".to_owned()),
        Ran::Not(Some(answer)) => Judged::Refused(said(&answer)),
        Ran::Replies(all, before) => match unfit(&sent.checks, &all) {
            Some(why) => Judged::Unfit(why),
            None => Judged::Applied {
                restates: restates(&sent.checks, &all),
                error: before
                    .iter()
                    .chain(&all)
                    .find(|answer| answer.is_error())
                    .map(said),
            },
        },
    }
}

/// How many requests of a transaction that is there were answered with an error.
pub fn failed(sent: &Transaction, replies: &[Answer]) -> u64 {
    let done = match sent.is_script {
        true => replies.last(),
        false => replies.iter().rev().nth(1),
    };
    match done {
        Some(Answer::Array(all)) => all.iter().filter(|answer| answer.is_error()).count() as u64,
        _ => 0,
    }
}

fn unfit(checks: &[Check], replies: &[Answer]) -> Option<String> {
    let mut whole = checks.iter().filter(|check| check.about == About::Whole);
    whole.find_map(|check| match replies.get(check.at) {
        Some(Answer::Error(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    })
}

fn restates(checks: &[Check], replies: &[Answer]) -> Vec<(u8, Vec<u8>)> {
    let is_other = |check: &&Check| match (check.about, replies.get(check.at)) {
        (About::Failure, Some(answer)) => answer.is_error(),
        (About::Deadline { .. }, Some(Answer::Int(-2))) => true,
        (About::Deadline { is_whole }, Some(Answer::Int(-1))) => !is_whole,
        _ => false,
    };
    let mut found: Vec<(u8, Vec<u8>)> = checks
        .iter()
        .filter(is_other)
        .map(|check| (check.db, check.key.clone()))
        .collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(RESTATED_MAX);
    found
}

#[cfg(test)]
mod tests {
    use storage::{Effect, Ttl};

    use super::super::Pen;
    use super::super::pen::tests::{add, mark, put};
    use super::*;
    use crate::Reader;

    fn ok() -> Answer {
        Answer::Simple(b"OK".to_vec())
    }

    fn error(text: &str) -> Answer {
        Answer::Error(text.as_bytes().to_vec())
    }

    /// The replies to a transaction whose EXEC is answered so.
    fn replies(sent: &Transaction, done: Answer) -> Vec<Answer> {
        let mut all = vec![ok()];
        all.extend((0..sent.replies - 3).map(|_| Answer::Simple(b"QUEUED".to_vec())));
        all.extend([done, ok()]);
        all
    }

    #[test]
    fn a_key_that_had_ended_or_failed_there_is_said_again() {
        let mut pen = Pen::new(Reader::of_rdb(10), 16);
        pen.begin_anew(0);
        let later = |key| Effect::ExpireAt { key, at_ms: 99 };
        // `whole` is said before it is given a deadline, `old` was there before.
        add(
            &mut pen,
            1,
            &[(0, put(b"whole", Ttl::Clear)), (0, later(b"whole"))],
        );
        add(&mut pen, 2, &[(0, later(b"old")), (1, later(b"gone"))]);
        // SET, PTTL, PEXPIREAT, PTTL, PEXPIREAT, SELECT, PTTL, PEXPIREAT, SELECT, SET of the position
        let sent = pen.finish(&mark(2));
        let ints = |whole, old, gone| {
            let n = Answer::Int;
            Answer::Array(vec![
                ok(),
                n(whole),
                n(1),
                n(old),
                n(1),
                ok(),
                n(gone),
                n(1),
                ok(),
                ok(),
            ])
        };
        let found = |done: Answer| match judge(&sent, &replies(&sent, done)) {
            Judged::Applied { restates, .. } => restates,
            other => panic!("{other:?}"),
        };
        assert_eq!(found(ints(-1, 5, 5)), vec![]);
        assert_eq!(found(ints(-1, -1, 5)), vec![(0, b"old".to_vec())]);
        assert_eq!(
            found(ints(-2, 5, -2)),
            vec![(0, b"whole".to_vec()), (1, b"gone".to_vec())]
        );
        let Answer::Array(mut failed) = ints(-1, 5, 5) else {
            return;
        };
        failed[4] = error("WRONGTYPE");
        let judged = judge(&sent, &replies(&sent, Answer::Array(failed)));
        let expected = Judged::Applied {
            restates: vec![(0, b"old".to_vec())],
            error: Some("WRONGTYPE".to_owned()),
        };
        assert_eq!(judged, expected);
        let Answer::Array(mut failed) = ints(-1, 5, 5) else {
            return;
        };
        failed[0] = error("ERR too long");
        let judged = judge(&sent, &replies(&sent, Answer::Array(failed)));
        assert_eq!(judged, Judged::Unfit("ERR too long".to_owned()));
    }

    #[test]
    fn a_script_tells_of_each_request_or_that_it_did_nothing() {
        let mut pen = Pen::new(Reader::of_rdb(10), 1).by_script(b"p".to_vec());
        pen.begin_at(0, None);
        add(&mut pen, 1, &[(0, put(b"a", Ttl::Clear))]);
        let ends = Effect::ExpireAt {
            key: b"b",
            at_ms: 9,
        };
        add(&mut pen, 2, &[(0, ends)]);
        let sent = pen.finish(&mark(2));
        let all = |set: Answer| Answer::Array(vec![set, Answer::Int(-2), Answer::Int(0)]);
        let expected = Judged::Applied {
            restates: vec![(0, b"b".to_vec())],
            error: None,
        };
        assert_eq!(judge(&sent, &[all(ok())]), expected);
        let unfit = judge(&sent, &[all(error("ERR too long"))]);
        assert_eq!(unfit, Judged::Unfit("ERR too long".to_owned()));
        assert_eq!(failed(&sent, &[all(error("x"))]), 1);
        assert_eq!(judge(&sent, &[Answer::Int(0)]), Judged::Stale);
        let moved = judge(&sent, &[error("ERR non local key")]);
        assert_eq!(moved, Judged::Refused("ERR non local key".to_owned()));
        assert!(matches!(judge(&sent, &[]), Judged::Refused(_)));
        assert!(matches!(judge(&sent, &[ok()]), Judged::Refused(_)));
    }

    #[test]
    fn nothing_is_there_after_a_refusal() {
        let mut pen = Pen::new(Reader::of_rdb(10), 16);
        pen.begin_anew(0);
        add(&mut pen, 1, &[(0, put(b"a", Ttl::Clear))]);
        let sent = pen.finish(&mark(1));
        let mut all = replies(&sent, error("EXECABORT"));
        all[1] = error("OOM command not allowed");
        assert_eq!(
            judge(&sent, &all),
            Judged::Refused("OOM command not allowed".to_owned())
        );
        assert_eq!(
            judge(&sent, &replies(&sent, Answer::NullArray)),
            Judged::Stale
        );
        assert_eq!(judge(&sent, &replies(&sent, Answer::Null)), Judged::Stale);
        assert!(matches!(judge(&sent, &[]), Judged::Refused(_)));
        assert!(matches!(
            judge(&sent, &replies(&sent, ok())),
            Judged::Refused(_)
        ));
    }
}
