//! What stands in the way of writing to the old Redis after the flip, where it is not to be a replica.

use super::{Here, Report, Told, Weight, field, version};

/// The first version that knows all that is said to it (SET ... PXAT).
pub const VERSION_MIN: (u64, u64) = (6, 2);

pub(super) fn of_written(told: &Told, here: &Here<'_>, report: &mut Report) {
    if version(&told.info) < VERSION_MIN {
        report.add(
            Weight::Stop,
            "a Redis before 6.2 cannot be written to",
            "let it be a replica (without --old-side written), or upgrade it",
        );
    }
    if !here.logs {
        report.add(
            Weight::Stop,
            "the log of this node is off: it is the queue of what is written to the old Redis",
            "CONFIG SET appendonly yes here",
        );
    }
    let has_limit = field(&told.info, "maxmemory").is_some_and(|bytes| bytes != "0");
    let policy = told
        .option("maxmemory-policy")
        .or_else(|| field(&told.info, "maxmemory_policy"));
    if has_limit && policy.is_some_and(|policy| policy != "noeviction") {
        report.add(
            Weight::Warning,
            "it evicts keys by itself, also those that are written there after the flip",
            "CONFIG SET maxmemory-policy noeviction there, and leave it room",
        );
    }
    if told
        .option("repl-backlog-ttl")
        .is_some_and(|ttl| ttl != "0")
    {
        report.add(
            Weight::Note,
            "without a replica it drops its backlog after repl-backlog-ttl: a way back after that is a full copy",
            "CONFIG SET repl-backlog-ttl 0 there",
        );
    }
}
