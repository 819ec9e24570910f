//! What is asked of an old Redis that is written to: who may write there, what it has, what was called.

use migration::written::Mark;
use migration::written::strays::{Calls, calls_of};
use migration::{BARRED_COMMANDS_BYTES_MAX, Bar, assess};
use protocol::answer::Answer;

use super::super::link::{Source, found_of, text_of};
use super::super::parts::ReadBack;

/// See `Peer::may_be_written`: the user that this node is there.
///
/// # Errors
/// What it lacks; of all functions here: what failed or was refused.
pub(in crate::control::migrate) fn may_be_written(source: &mut Source) -> Result<String, String> {
    if assess::version(&source.info("server")?) < assess::WRITTEN_VERSION_MIN {
        return Err("a Redis before 6.2 cannot be written to: let it be a replica".to_owned());
    }
    source
        .call(&["ACL", "WHOAMI"])
        .map(|answer| text_of(&answer))
}

/// See `Peer::commands_of`.
pub(in crate::control::migrate) fn commands_of(
    source: &mut Source,
    user: &str,
) -> Result<String, String> {
    let answer = source.call(&["ACL", "GETUSER", user])?;
    let fields = match answer {
        Answer::Array(fields) => fields,
        Answer::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(name, value)| [name, value])
            .collect(),
        _ => return Err(format!("the source has no user '{user}'")),
    };
    let field = |name: &str| {
        let pairs = fields.chunks_exact(2);
        let mut pairs = pairs.filter(|pair| text_of(&pair[0]) == name);
        pairs.next().map(|pair| &pair[1])
    };
    if let Some(Answer::Array(selectors)) = field("selectors")
        && !selectors.is_empty()
    {
        return Err(format!(
            "the user '{user}' has selectors, which would let it write all the same: it cannot be barred"
        ));
    }
    let commands = field("commands").map(text_of).unwrap_or_default();
    if commands.is_empty() || !Bar::has_room(&commands) {
        return Err(format!(
            "what the user '{user}' may call takes more than {BARRED_COMMANDS_BYTES_MAX} bytes to say, or none: it cannot be barred"
        ));
    }
    Ok(commands)
}

/// See `Peer::bar`.
pub(in crate::control::migrate) fn bar(source: &mut Source, user: &str) -> Result<String, String> {
    source.call(&["ACL", "SETUSER", user, "-@write"])?;
    commands_of(source, user)
}

/// See `Peer::unbar`. (What a user may call begins with all or with nothing: it replaces what it may now.)
pub(in crate::control::migrate) fn unbar(source: &mut Source, bar: &Bar) -> Result<(), String> {
    let mut words = vec!["ACL", "SETUSER", &bar.user];
    words.extend(bar.commands.split(' ').filter(|word| !word.is_empty()));
    source.call(&words).map(drop)
}

fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

/// See `Peer::read_back`.
pub(in crate::control::migrate) fn read_back(
    source: &mut Source,
    position: &[u8],
) -> Result<ReadBack, String> {
    let requests = [
        words(&[b"MULTI"]),
        words(&[b"GET", position]),
        words(&[b"INFO", b"replication"]),
        words(&[b"TIME"]),
        words(&[b"EXEC"]),
    ];
    let mut answers = source.call_all(&requests)?;
    let Some(Answer::Array(found)) = answers.pop() else {
        let why = answers.iter().find(|answer| answer.is_error()).map(text_of);
        return Err(why.unwrap_or_else(|| "it does not say what it has".to_owned()));
    };
    let [mark, info, Answer::Array(time)] = &found[..] else {
        return Err("it does not say what it has".to_owned());
    };
    let part = |at: usize| {
        time.get(at)
            .and_then(|part| text_of(part).parse::<u64>().ok())
    };
    let (Some(s), Some(us)) = (part(0), part(1)) else {
        return Err("it does not say what time it is".to_owned());
    };
    Ok(ReadBack {
        mark: Mark::of(text_of(mark).as_bytes()),
        place: found_of(&text_of(info), None)?.at,
        now_ms: s.saturating_mul(1000).saturating_add(us / 1000),
    })
}

/// See `Peer::forget`.
pub(in crate::control::migrate) fn forget(
    source: &mut Source,
    position: &[u8],
) -> Result<(), String> {
    source.call(&[b"UNLINK", position]).map(drop)
}

/// See `Peer::calls`.
pub(in crate::control::migrate) fn calls(source: &mut Source) -> Result<Calls, String> {
    Ok(calls_of(&source.info("commandstats")?))
}
