//! What the commands on deadlines of fields share: their rows' form, and `FIELDS numfields field...`.

use protocol::{Acl, Args, Arity, Flags, Group, KeySpec, Refusal, Spec, number};
use storage::Hash;

use crate::string::expiry::Unit;
use crate::{Command, Run, Spread};

/// A row: all of these commands are fast and have one key.
pub(super) const fn row(
    (name, summary, since): (&'static str, &'static str, &'static str),
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    tips: &'static [&'static str],
    run: Run,
) -> Command {
    let access = if flags.contains(Flags::WRITE) {
        Acl::WRITE
    } else {
        Acl::READ
    };
    Command {
        spec: Spec {
            name,
            summary,
            group: Group::Hash,
            since,
            arity: Arity::at_least(arity),
            flags: flags.and(Flags::FAST),
            acl: Acl::FAST.and(Acl::HASH).and(access),
            keys,
            range: (1, 1, 1),
            tips,
            deprecated_since: None,
        },
        run,
        spread: Spread::Keys,
    }
}

/// Checks `FIELDS numfields` and that so many fields follow, which are left to take.
///
/// # Errors
/// As Redis says it; `not_positive` for a number that is none or too small.
pub(super) fn fields(args: &mut Args<'_>, not_positive: &'static str) -> Result<(), Refusal> {
    if !args.keyword("FIELDS") {
        return Err(Refusal::Text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = number::parse_i64(args.bytes()?).filter(|count| *count > 0);
    let count = count.ok_or(Refusal::Text(not_positive))?;
    if usize::try_from(count) != Ok(args.left()) {
        return Err(Refusal::Text(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(())
}

/// What `fields` says where most commands do.
pub(super) const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

/// The deadline, unix ms, that a time of this unit means.
///
/// # Errors
/// No integer, a negative one, or one beyond what a field may have.
pub(super) fn deadline(
    unit: Unit,
    word: &[u8],
    now_ms: u64,
    command: &'static str,
) -> Result<u64, Refusal> {
    let time = number::parse_i64(word).ok_or(Refusal::NotInteger)?;
    let time =
        u64::try_from(time).map_err(|_| Refusal::Text("ERR invalid expire time, must be >= 0"))?;
    let (unit_ms, origin_ms) = match unit {
        Unit::Seconds => (1000, now_ms),
        Unit::Ms => (1, now_ms),
        Unit::AtSeconds => (1000, 0),
        Unit::AtMs => (1, 0),
    };
    let at_ms = time.checked_mul(unit_ms);
    let at_ms = at_ms.and_then(|ms| ms.checked_add(origin_ms));
    let at_ms = at_ms.filter(|at_ms| *at_ms <= Hash::DEADLINE_MS_MAX);
    at_ms.ok_or(Refusal::ExpireTime(command))
}
