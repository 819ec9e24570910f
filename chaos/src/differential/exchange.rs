//! Values that travel: what one server dumps the other restores, and it is the same value there.

use protocol::answer::Answer;

use super::compare::Mismatch;
use super::dump::{DataDifferences, Pair, bytes, content, named};
use super::rule::Rule;
use crate::client::{Client, ClientError};

/// Where what comes from the other server is put.
const COPY: &[u8] = b"dump:copy";

impl Pair<'_> {
    /// Dumps a key of the selected database on each server, restores it on the other, and compares what is there now.
    /// `kind` is the answer of TYPE.
    pub(super) fn exchange(
        &mut self,
        db: usize,
        key: &[u8],
        kind: &Answer,
        found: &mut DataDifferences,
    ) -> Result<(), ClientError> {
        let dump = |client: &mut Client| client.call(&[b"DUMP", key]);
        let (ours, theirs) = (dump(self.subject)?, dump(self.oracle)?);
        let (Some(ours), Some(theirs)) = (bytes(&ours), bytes(&theirs)) else {
            let op = named("data: dump", 1, &[b"DUMP", key], Rule::Shape);
            let asked = self.ask(&[op])?;
            found.note(db, asked.mismatches);
            return Ok(());
        };
        let restore = |client: &mut Client, payload: &[u8]| {
            client.call(&[b"RESTORE", COPY, b"0", payload, b"REPLACE"])
        };
        let restored = [
            restore(self.subject, &theirs)?,
            restore(self.oracle, &ours)?,
        ];
        let ok = Answer::Simple(b"OK".to_vec());
        let mut ops = Vec::new();
        if restored.iter().all(|answer| *answer == ok) {
            ops.push(named(
                "data: encoding of a restored value",
                2,
                &[b"OBJECT", b"ENCODING", COPY],
                Rule::Exact,
            ));
            ops.extend(content(COPY, kind));
        } else {
            let op = named("data: restore", 1, &[b"RESTORE", key], Rule::Exact);
            let [subject, oracle] = restored;
            let why = "a dump that is not restored";
            let mismatch = Mismatch {
                op,
                subject,
                oracle,
                why,
            };
            found.note(db, vec![mismatch]);
        }
        ops.push(named(
            "data: end of a copy",
            1,
            &[b"DEL", COPY],
            Rule::Exact,
        ));
        let asked = self.ask(&ops)?;
        found.note(db, asked.mismatches);
        Ok(())
    }
}
