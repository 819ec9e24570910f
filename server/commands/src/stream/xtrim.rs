//! XTRIM, and the words about trimming that XADD takes as well.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, Limits, Trim, TrimTo};

use super::ids;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "xtrim",
        summary: "Removes the first entries of a stream.",
        group: Group::Stream,
        since: "5.0.0",
        arity: Arity::at_least(4),
        flags: Flags::WRITE,
        acl: Acl::SLOW.and(Acl::STREAM).and(Acl::WRITE),
        keys: spec::ONE_RW_DELETE,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Write(xtrim),
    spread: Spread::Keys,
}];

/// Entries that `~` removes at most: so many nodes full, or this when that is no number to go by.
const NODES_AT_ONCE: u64 = 100;
const ENTRIES_AT_ONCE: u64 = 10_000;
const ENTRIES_AT_ONCE_MAX: u64 = 1_000_000;

/// What the words say about trimming.
#[derive(Default)]
pub(super) struct Options {
    to: Option<TrimTo>,
    whole_nodes: bool,
    limit: Option<i64>,
}

impl Options {
    /// Takes one option, if the next word begins one.
    pub(super) fn take(&mut self, args: &mut Args<'_>) -> Result<bool, Refusal> {
        if args.left() < 2 {
            return Ok(false);
        }
        if args.keyword("MAXLEN") {
            let len = number(self.begin(args)?)?;
            let len = u64::try_from(len)
                .map_err(|_| Refusal::Text("ERR The MAXLEN argument must be >= 0."))?;
            self.to = Some(TrimTo::Len(len));
        } else if args.keyword("MINID") {
            self.to = Some(TrimTo::Id(ids::strict(self.begin(args)?, 0)?));
        } else if args.keyword("LIMIT") {
            let limit = args.int()?;
            if limit < 0 {
                return Err(Refusal::Text("ERR The LIMIT argument must be >= 0."));
            }
            self.limit = Some(limit);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The sign, if any, and the word behind.
    fn begin<'a>(&mut self, args: &mut Args<'a>) -> Result<&'a [u8], Refusal> {
        if self.to.is_some() {
            return Err(Refusal::Text(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let signed = args.left() >= 2;
        self.whole_nodes = signed && args.keyword("~");
        if signed && !self.whole_nodes {
            args.keyword("=");
        }
        args.bytes()
    }

    /// The trimming; `must` it be asked for?
    pub(super) fn trim(&self, limits: &Limits, must: bool) -> Result<Option<Trim>, Refusal> {
        let Some(to) = self.to else {
            return match self.limit {
                None | Some(0) if must => Err(Refusal::Text(
                    "ERR syntax error, XTRIM must be called with a trimming strategy",
                )),
                None => Ok(None),
                Some(0) => Err(LIMIT_WITHOUT_APPROXIMATION),
                Some(_) => Err(Refusal::Text(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                )),
            };
        };
        let limit = match (self.whole_nodes, self.limit) {
            (false, Some(_)) => return Err(LIMIT_WITHOUT_APPROXIMATION),
            (false, None) => 0,
            (true, Some(limit)) => limit.unsigned_abs(),
            (true, None) => match limits.stream_node_max_entries.saturating_mul(NODES_AT_ONCE) {
                0 => ENTRIES_AT_ONCE,
                limit => limit.min(ENTRIES_AT_ONCE_MAX),
            },
        };
        Ok(Some(Trim {
            to,
            whole_nodes: self.whole_nodes,
            limit,
        }))
    }
}

const LIMIT_WITHOUT_APPROXIMATION: Refusal =
    Refusal::Text("ERR syntax error, LIMIT cannot be used without the special ~ option");

fn number(word: &[u8]) -> Result<i64, Refusal> {
    protocol::number::parse_i64(word).ok_or(Refusal::NotInteger)
}

fn xtrim(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut options = Options::default();
    while args.left() > 0 {
        if !options.take(&mut args)? {
            return Err(Refusal::Syntax.into());
        }
    }
    let trim = options.trim(cx.edit.limits(), true)?;
    let mut removed = 0;
    if let Some(mut stream) = cx.edit.edit_stream(&key)?
        && let Some(trim) = trim
    {
        removed = stream.trim(&trim);
        if removed > 0 {
            stream.event(EventClass::Stream, "xtrim");
        }
    }
    cx.reply.int(removed as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use storage::Limits;

    use crate::testing::Bench;

    #[test]
    fn trims() {
        let mut bench = Bench::with_limits(Limits {
            stream_node_max_entries: 10,
            ..Limits::default()
        });
        for n in 1..=35 {
            bench.run(&format!("XADD s {n}-0 f {n}"));
        }
        bench.table(
            "
            XTRIM none MAXLEN 0 -> :0
            XTRIM s MAXLEN 35 -> :0
            XTRIM s MAXLEN ~ 26 -> :0
            XTRIM s MAXLEN ~ 24 -> :10
            XTRIM s maxlen = 24 -> :1
            XTRIM s MINID 13 -> :1
            XTRIM s MINID ~ 20 -> :0
            XTRIM s MINID ~ 21 LIMIT 7 -> :0
            XTRIM s MINID ~ 21 LIMIT 8 -> :8
            XTRIM s MAXLEN ~ 0 LIMIT 10 -> :10
            XLEN s -> :5
            XTRIM s MAXLEN 0 -> :5
            EXISTS s -> :1
            XLEN s -> :0
            XADD s 35-0 f v -> -ERR The ID specified in XADD is equal or smaller than the target stream top item
            XTRIM s MAXLEN -1 -> -ERR The MAXLEN argument must be >= 0.
            XTRIM s MAXLEN x -> -ERR value is not an integer or out of range
            XTRIM s MAXLEN ~ -> -ERR value is not an integer or out of range
            XTRIM s MAXLEN = ~ -> -ERR value is not an integer or out of range
            XTRIM s MAXLEN 1 MINID 1 -> -ERR syntax error, MAXLEN and MINID options at the same time are not compatible
            XTRIM s MINID + -> -ERR Invalid stream ID specified as stream command argument
            XTRIM s MAXLEN ~ 1 LIMIT -1 -> -ERR The LIMIT argument must be >= 0.
            XTRIM s MAXLEN 1 LIMIT 0 -> -ERR syntax error, LIMIT cannot be used without the special ~ option
            XTRIM s LIMIT 1 LIMIT 0 -> -ERR syntax error, XTRIM must be called with a trimming strategy
            XTRIM s LIMIT 5 -> -ERR syntax error, LIMIT cannot be used without specifying a trimming strategy
            XTRIM s MAXLEN 1 WHAT -> -ERR syntax error
            SET str x -> +OK
            XTRIM str MAXLEN 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
