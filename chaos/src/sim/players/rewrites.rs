//! One that has the log rewritten and snapshots taken, while all others go on. What they find says whether that was right; here
//! it is only said that each is answered as it must be.

use protocol::answer::Answer;

use super::{Facts, Player, Request, Tag};
use crate::rng::Rng;

/// See the module's head.
#[derive(Default)]
pub(crate) struct Rewriter;

const BGREWRITEAOF: u64 = 1;
const BGSAVE: u64 = 2;
const SAVE: u64 = 3;

/// What each may be answered: the beginnings.
const ANSWERS: [(u64, &[&str]); 3] = [
    (
        BGREWRITEAOF,
        &[
            "Background append only file rewriting started",
            "Background append only file rewriting scheduled",
            "ERR Background append only file rewriting already in progress",
        ],
    ),
    (
        BGSAVE,
        &[
            "Background saving started",
            "Background saving scheduled",
            "ERR Background save already in progress",
        ],
    ),
    (SAVE, &["OK", "ERR"]),
];

impl Player for Rewriter {
    fn name(&self) -> &'static str {
        "rewrites"
    }

    fn act(&mut self, _facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        let (line, number) = match rng.below(10) {
            0..=6 => ("BGREWRITEAOF", BGREWRITEAOF),
            7 | 8 => ("BGSAVE SCHEDULE", BGSAVE),
            _ => ("SAVE", SAVE),
        };
        vec![Request::line(line, Tag::Own(number))]
    }

    fn heard(&mut self, number: u64, answer: Answer, facts: &mut Facts) {
        let text = match &answer {
            Answer::Simple(text) | Answer::Error(text) => text.as_slice(),
            _ => b"",
        };
        let mut allowed = ANSWERS.iter().filter(|(of, _)| *of == number);
        let fits = allowed.any(|(_, texts)| texts.iter().any(|it| text.starts_with(it.as_bytes())));
        if !fits {
            facts.fault(format!("a snapshot was asked for: {answer:?}"));
        }
    }

    fn lost(&mut self, _own: &[u64], _crashed: bool, _facts: &mut Facts) {}
}
