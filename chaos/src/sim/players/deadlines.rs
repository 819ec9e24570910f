//! Keys that end: they are there until their deadline by the wall clock, and gone after it. The wall clock may jump.

use protocol::answer::Answer;

use super::{Facts, Player, Request, Tag};
use crate::rng::Rng;

/// One that alone uses a key.
pub(crate) struct Keeper {
    key: String,
    set: Option<Kept>,
    /// What is being set: the value and the milliseconds.
    setting: Option<(String, u64)>,
    /// Step and wall clock when the request under way began.
    begun: (u64, u64),
    /// Whether all that was asked has been answered.
    known: bool,
}

/// What is set.
#[derive(Clone)]
struct Kept {
    value: String,
    /// Step and wall clock when it began to be set.
    begun: (u64, u64),
    /// Between these its deadline lies, unix ms.
    first_ms: u64,
    last_ms: u64,
}

const SET: u64 = 1;
const GET: u64 = 2;

impl Keeper {
    /// One of a key of its own.
    pub(crate) fn new(name: u64) -> Keeper {
        Keeper {
            key: format!("d{name}"),
            set: None,
            setting: None,
            begun: (0, 0),
            known: true,
        }
    }

    fn judge(&mut self, answer: &Answer, facts: &mut Facts) {
        let key = &self.key;
        let Some(kept) = self.set.clone() else {
            if *answer != Answer::Null {
                facts.fault(format!("{key}: not set, and it is {answer:?}"));
            }
            return;
        };
        // It is gone once any reading was at its deadline, also if the clock has gone back since then.
        let (_, high_ms) = facts.wall_since(kept.begun.0, kept.begun.1);
        let (low_ms, _) = facts.wall_since(self.begun.0, self.begun.1);
        match answer {
            Answer::Null if high_ms >= kept.first_ms => self.set = None,
            Answer::Bulk(text) if *text != kept.value.as_bytes() => {
                facts.fault(format!("{key}: {answer:?} instead of {}", kept.value));
            }
            Answer::Bulk(_) if low_ms <= kept.last_ms => {}
            _ => facts.fault(format!(
                "{key}: {answer:?} between {low_ms} and {high_ms}, and its deadline is between {} and {}",
                kept.first_ms, kept.last_ms
            )),
        }
    }
}

impl Player for Keeper {
    fn name(&self) -> &'static str {
        "deadlines"
    }

    fn act(&mut self, facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        self.begun = (facts.step, facts.wall_ms);
        if rng.percent(30) || !self.known {
            let value = facts.unique().to_string();
            let ms = 1 + rng.below(60) as u64;
            self.setting = Some((value.clone(), ms));
            let line = format!("SET {} {value} PX {ms}", self.key);
            return vec![Request::line(&line, Tag::Own(SET))];
        }
        vec![Request::line(&format!("GET {}", self.key), Tag::Own(GET))]
    }

    fn heard(&mut self, number: u64, answer: Answer, facts: &mut Facts) {
        if number == GET {
            return self.judge(&answer, facts);
        }
        self.known = true;
        if let Some((value, ms)) = self.setting.take() {
            let (low, high) = facts.wall_since(self.begun.0, self.begun.1);
            self.set = Some(Kept {
                value,
                begun: self.begun,
                first_ms: low + ms,
                last_ms: high + ms,
            });
        }
    }

    fn lost(&mut self, own: &[u64], crashed: bool, facts: &mut Facts) {
        if own.contains(&SET) && !crashed {
            // A core that starved may execute it after what the next connection says: nobody knows this key any more.
            self.key.push('\'');
        }
        if own.contains(&SET) || facts.forgetful {
            self.known = false;
            self.set = None;
            self.setting = None;
        }
    }
}
