//! Commands that look at the value before they act: DIGEST, DELEX, DELIFEQ, and the condition of SET.
//!
//! A digest is XXH3 with 64 bits, as sixteen hexadecimal digits. It stands for a value that is too long to send twice.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec, spec};
use storage::{EventClass, Text, WrongType};
use twox_hash::XxHash3_64;

use crate::{Command, Read, Refused, Run, Spread, Write};

/// What DELEX and DELIFEQ have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    group: Group::String,
    since: "",
    arity: Arity::exactly(3),
    flags: Flags::FAST.and(Flags::WRITE),
    acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
    keys: &[],
    range: (1, 1, 1),
    tips: &[],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "delex",
            summary: "Removes a key, if the string there is as asked.",
            since: "8.4.0",
            arity: Arity::at_least(2),
            keys: &[KeySpec::one(
                1,
                KeyFlags::RW
                    .and(KeyFlags::DELETE)
                    .and(KeyFlags::VARIABLE_FLAGS),
            )],
            ..BASE
        },
        run: Run::Write(delex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "delifeq",
            summary: "Removes a key, if it holds this string.",
            since: "9.0.0",
            keys: &[KeySpec::one(1, KeyFlags::RM.and(KeyFlags::DELETE))],
            ..BASE
        },
        run: Run::Write(delifeq),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "digest",
            summary: "Tells the digest of a string.",
            since: "8.4.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STRING),
            keys: spec::ONE_RO_ACCESS,
            ..BASE
        },
        run: Run::Read(digest),
        spread: Spread::Keys,
    },
];

/// Hexadecimal digits of a digest.
const DIGEST_DIGITS: usize = 16;

/// What a string is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison<'a> {
    /// It is this.
    Is(&'a [u8]),
    /// It is anything else.
    IsNot(&'a [u8]),
    /// It has this digest.
    HasDigest(&'a [u8]),
    /// It has another digest.
    HasNotDigest(&'a [u8]),
}

impl<'a> Comparison<'a> {
    /// Takes `IFEQ value` or its kin, if it is next and whole.
    pub(super) fn take(args: &mut Args<'a>) -> Option<Self> {
        if args.left() < 2 {
            return None;
        }
        let make = if args.keyword("IFEQ") {
            Comparison::Is
        } else if args.keyword("IFNE") {
            Comparison::IsNot
        } else if args.keyword("IFDEQ") {
            Comparison::HasDigest
        } else if args.keyword("IFDNE") {
            Comparison::HasNotDigest
        } else {
            return None;
        };
        args.bytes().ok().map(make)
    }

    /// Whether it holds of what a key holds; of a missing key hold the two that say "not".
    ///
    /// # Errors
    /// A digest of another length; it is looked at only where there is a string. Its digits are not: one that is none
    /// is in no digest.
    pub(super) fn holds(self, held: Option<Text<'_>>) -> Result<bool, Refusal> {
        let Some(held) = held else {
            return Ok(matches!(
                self,
                Comparison::IsNot(_) | Comparison::HasNotDigest(_)
            ));
        };
        let has = |wanted: &[u8]| {
            if wanted.len() != DIGEST_DIGITS {
                return Err(Refusal::Text(
                    "ERR must be exactly 16 hexadecimal characters",
                ));
            }
            Ok(wanted.eq_ignore_ascii_case(&digest_of(held)))
        };
        Ok(match self {
            Comparison::Is(value) => held.with(|bytes| bytes == value),
            Comparison::IsNot(value) => held.with(|bytes| bytes != value),
            Comparison::HasDigest(wanted) => has(wanted)?,
            Comparison::HasNotDigest(wanted) => !has(wanted)?,
        })
    }
}

fn digest_of(text: Text<'_>) -> [u8; DIGEST_DIGITS] {
    let hash = text.with(XxHash3_64::oneshot);
    let digit = |place: usize| b"0123456789abcdef"[(hash >> (4 * place)) as usize & 0xf];
    core::array::from_fn(|at| digit(DIGEST_DIGITS - 1 - at))
}

fn digest(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    match cx.shard.text(&key)? {
        Some(text) => cx.reply.bulk(&digest_of(text)),
        None => cx.reply.null(),
    }
    Ok(())
}

fn delex(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let word = args.bytes()?;
    if !matches!(args.left(), 0 | 2) {
        return Err(Refusal::arity("delex").into());
    }
    let key = cx.key(word);
    let holds = if args.left() == 0 || !cx.edit.exists(&key) {
        true
    } else {
        let held = cx.edit.text(&key).map_err(|WrongType| {
            Refusal::Text("ERR Key should be of string type if conditions are specified")
        })?;
        let comparison = Comparison::take(&mut args).ok_or(Refusal::Text(
            "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE",
        ))?;
        comparison.holds(held)?
    };
    remove_if(cx, word, holds);
    Ok(())
}

fn delifeq(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (word, value) = (args.bytes()?, args.bytes()?);
    let held = cx.edit.text(&cx.key(word))?;
    let holds = held.is_some() && Comparison::Is(value).holds(held)?;
    remove_if(cx, word, holds);
    Ok(())
}

/// Removes a key, if it is there and `holds`; the reply is how many are gone.
fn remove_if(cx: &mut Write<'_>, word: &[u8], holds: bool) {
    let key = cx.key(word);
    let removed = holds && cx.edit.remove(&key);
    if removed {
        cx.edit.event(EventClass::Generic, "del", &key);
    }
    cx.reply.int(i64::from(removed));
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn digests_are_those_of_the_documentation() {
        let long = "v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytls2kwlj7626sd";
        let mut bench = Bench::new();
        for (value, digest) in [
            ("Hello world", "b6acb9d84a38ff74"),
            ("hello", "9555e8555c62dcfd"),
            ("", "2d06800538d394c2"),
            ("123", "404a763b3f4c8c9a"),
            ("v8", "0cc76dbb41381419"),
            (long, "00006c38adf31777"),
        ] {
            bench.raw(&[b"SET", b"k", value.as_bytes()]);
            assert_eq!(bench.run("DIGEST k"), format!("$16 {digest}"), "{value}");
        }
        bench.list(&Key::new(0, b"l"));
        bench.table(&format!("DIGEST none -> $-1\nDIGEST l -> {WRONG}"));
    }

    #[test]
    fn keys_are_removed_when_the_value_is_as_asked() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        let not_a_string = "-ERR Key should be of string type if conditions are specified";
        let digits = "-ERR must be exactly 16 hexadecimal characters";
        bench.table(&format!(
            "
            DELEX none -> :0
            DELEX none FOO x -> :0
            DELEX none IFNE x -> :0
            DELEX none IFDNE x -> :0
            SET k hello -> +OK
            DELEX k IFEQ other -> :0
            DELEX k IFNE hello -> :0
            DELEX k IFDEQ 0000000000000000 -> :0
            DELEX k IFDEQ zzzzzzzzzzzzzzzz -> :0
            DELEX k IFDNE 9555E8555C62DCFD -> :0
            DELEX k IFDEQ 955 -> {digits}
            DELEX k IFDNE \"\" -> {digits}
            DELEX k FOO hello -> -ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE
            DELEX k IFEQ -> -ERR wrong number of arguments for 'delex' command
            DELEX k IFEQ hello extra -> -ERR wrong number of arguments for 'delex' command
            DELEX none IFEQ -> -ERR wrong number of arguments for 'delex' command
            DELEX k ifeq hello -> :1
            EXISTS k -> :0
            SET k 123 -> +OK
            DELEX k IFNE 0123 -> :1
            SET k hello -> +OK
            DELEX k IFDEQ 9555E8555c62dcfd -> :1
            DELEX l IFEQ x -> {not_a_string}
            DELEX l FOO x -> {not_a_string}
            DELEX l -> :1
            "
        ));
    }

    #[test]
    fn valkeys_delifeq() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(&format!(
            "
            DELIFEQ k v -> :0
            SET k 7 -> +OK
            DELIFEQ k 07 -> :0
            DELIFEQ k 7 -> :1
            EXISTS k -> :0
            DELIFEQ l x -> {WRONG}
            "
        ));
    }
}
