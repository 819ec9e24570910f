//! Hot path. GET and its kin: reading strings.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};
use storage::{Text, Ttl};

use crate::string::expiry;
use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "get",
            summary: "Reads the string at a key.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STRING),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(get),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "getdel",
            summary: "Reads the string at a key and removes the key.",
            group: Group::String,
            since: "6.2.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(getdel),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "getex",
            summary: "Reads the string at a key and changes its deadline.",
            group: Group::String,
            since: "6.2.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(getex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "mget",
            summary: "Reads the strings at several keys.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STRING),
            keys: spec::ALL_RO_ACCESS,
            range: (1, -1, 1),
            tips: &["request_policy:multi_shard"],
            deprecated_since: None,
        },
        run: Run::Read(mget),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "strlen",
            summary: "Tells how long the string at a key is.",
            group: Group::String,
            since: "2.2.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STRING),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(strlen),
        spread: Spread::Keys,
    },
];

fn get(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    write(&mut cx.reply, cx.shard.text(&key)?);
    Ok(())
}

fn mget(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    cx.reply.array(args.left());
    for word in args.rest() {
        let key = cx.key(word);
        // A value of another type is answered like a missing one.
        write(&mut cx.reply, cx.shard.text(&key).unwrap_or(None));
    }
    Ok(())
}

fn getdel(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    write(&mut cx.reply, cx.edit.text(&key)?);
    cx.edit.remove(&key);
    Ok(())
}

fn getex(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut change = None;
    if args.left() > 0 {
        change = if args.keyword("PERSIST") {
            Some(Ttl::Clear)
        } else {
            Some(Ttl::At(expiry::option(
                &mut args,
                cx.edit.now_ms(),
                "getex",
            )?))
        };
        args.end()?;
    }
    let found = cx.edit.text(&key)?;
    write(&mut cx.reply, found);
    if found.is_none() {
        return Ok(());
    }
    match change {
        Some(Ttl::At(at_ms)) => {
            cx.edit.expire_at(&key, at_ms);
        }
        Some(Ttl::Clear) => {
            cx.edit.persist(&key);
        }
        Some(Ttl::Keep) | None => {}
    }
    Ok(())
}

fn strlen(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let len = cx.shard.text(&key)?.map_or(0, |text| text.len());
    cx.reply.int(len as i64);
    Ok(())
}

/// A string as a reply, or the null of its absence.
#[inline]
pub(super) fn write(reply: &mut protocol::Reply<'_>, text: Option<Text<'_>>) {
    match text {
        Some(Text::Bytes(bytes)) => reply.bulk(bytes),
        Some(Text::Int(n)) => reply.bulk_int(n),
        None => reply.null(),
    }
}
