//! XGROUP: consumer groups and their consumers.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};
use storage::{EventClass, StreamId};

use super::{entry, ids};
use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xgroup",
            summary: "Groups the commands on consumer groups.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Container,
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xgroup|create",
            summary: "Makes a consumer group.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(5),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STREAM).and(Acl::WRITE),
            keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT))],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(create),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xgroup|createconsumer",
            summary: "Makes a consumer in a group.",
            group: Group::Stream,
            since: "6.2.0",
            arity: Arity::exactly(5),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STREAM).and(Acl::WRITE),
            keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT))],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(createconsumer),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xgroup|delconsumer",
            summary: "Removes a consumer from a group.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::exactly(5),
            flags: Flags::WRITE,
            acl: Acl::SLOW.and(Acl::STREAM).and(Acl::WRITE),
            keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::DELETE))],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(delconsumer),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xgroup|destroy",
            summary: "Removes a consumer group.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::exactly(4),
            flags: Flags::WRITE,
            acl: Acl::SLOW.and(Acl::STREAM).and(Acl::WRITE),
            keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::DELETE))],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(destroy),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xgroup|help",
            summary: "Lists the subcommands of XGROUP.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW.and(Acl::STREAM),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(help),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xgroup|setid",
            summary: "Sets the last id that was delivered to a group.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(5),
            flags: Flags::WRITE,
            acl: Acl::SLOW.and(Acl::STREAM).and(Acl::WRITE),
            keys: &[KeySpec::one(2, KeyFlags::RW.and(KeyFlags::UPDATE))],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(setid),
        spread: Spread::Keys,
    },
];

const NO_KEY: Refusal = Refusal::Text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
);
/// Words of the longest requests.
const CREATE_WORDS_MAX: usize = 8;
const SETID_WORDS: [usize; 2] = [5, 7];

const HELP: &[&str] = &[
    "CREATE <key> <groupname> <id|$> [option]",
    "    Make a consumer group that begins behind <id>. Options:",
    "    * MKSTREAM",
    "      Make an empty stream if there is no key.",
    "    * ENTRIESREAD entries_read",
    "      Set how many entries the group is said to have read.",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Make a consumer in a group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove a consumer, and what is pending with it.",
    "DESTROY <key> <groupname>",
    "    Remove a group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the last delivered id of a group, and how many entries it has read.",
    "HELP",
    "    Print this help.",
];

/// What the words behind the id say.
struct Options {
    make_stream: bool,
    read: Option<u64>,
}

fn options(args: &mut Args<'_>, is_create: bool) -> Result<Options, Refusal> {
    let (mut make_stream, mut read) = (false, None);
    while args.left() > 0 {
        if is_create && args.keyword("MKSTREAM") {
            make_stream = true;
        } else if args.left() > 1 && args.keyword("ENTRIESREAD") {
            read = match args.int()? {
                -1 => None,
                n => Some(u64::try_from(n).map_err(|_| {
                    Refusal::Text("ERR value for ENTRIESREAD must be positive or -1")
                })?),
            };
        } else {
            return Err(Refusal::subcommand_syntax(args));
        }
    }
    Ok(Options { make_stream, read })
}

fn create(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group, word) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let options = options(&mut args, true)?;
    let last = match cx.edit.stream(&key)? {
        None if !options.make_stream => return Err(NO_KEY.into()),
        stream => stream.map_or(StreamId::MIN, |stream| stream.last_id()),
    };
    if args.total() > CREATE_WORDS_MAX {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let id = if word == b"$" {
        last
    } else {
        ids::strict(word, 0)?
    };
    let mut stream = cx.edit.edit_stream_or_new(&key)?;
    if stream.group(group).is_some() {
        return Err(Refusal::Text("BUSYGROUP Consumer Group name already exists").into());
    }
    stream.put_group(group, id, options.read);
    stream.event(EventClass::Stream, "xgroup-create");
    cx.reply.ok();
    Ok(())
}

fn setid(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group, word) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let options = options(&mut args, false)?;
    let mut stream = cx.edit.edit_stream(&key)?.ok_or(NO_KEY)?;
    if stream.group(group).is_none() {
        return Err(entry::no_group_at(key.bytes, group).into());
    }
    if !SETID_WORDS.contains(&args.total()) {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let id = if word == b"$" {
        stream.last_id()
    } else {
        ids::or_end(word, 0)?
    };
    stream.put_group(group, id, options.read);
    stream.event(EventClass::Stream, "xgroup-setid");
    cx.reply.ok();
    Ok(())
}

fn destroy(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group) = (cx.key(args.bytes()?), args.bytes()?);
    let mut stream = cx.edit.edit_stream(&key)?.ok_or(NO_KEY)?;
    let removed = stream.remove_group(group);
    if removed {
        stream.event(EventClass::Stream, "xgroup-destroy");
    }
    cx.reply.int(removed.into());
    Ok(())
}

fn createconsumer(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group, consumer) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let now_ms = cx.edit.wall_ms();
    let mut stream = cx.edit.edit_stream(&key)?.ok_or(NO_KEY)?;
    let Some(found) = stream.group(group) else {
        return Err(entry::no_group_at(key.bytes, group).into());
    };
    let new = found.consumer(consumer).is_none();
    if new {
        stream.put_consumer(group, consumer, now_ms, None);
        stream.event(EventClass::Stream, "xgroup-createconsumer");
    }
    cx.reply.int(new.into());
    Ok(())
}

fn delconsumer(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group, consumer) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let mut stream = cx.edit.edit_stream(&key)?.ok_or(NO_KEY)?;
    if stream.group(group).is_none() {
        return Err(entry::no_group_at(key.bytes, group).into());
    }
    let pending = stream.remove_consumer(group, consumer);
    if pending.is_some() {
        stream.event(EventClass::Stream, "xgroup-delconsumer");
    }
    cx.reply.int(pending.unwrap_or(0) as i64);
    Ok(())
}

fn help(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    super::xinfo::reply_help(cx, &args, HELP)
}

#[cfg(test)]
mod tests {

    use crate::testing::Bench;

    #[test]
    fn groups_and_consumers() {
        let mut bench = Bench::new();
        bench.table(
            "
            XGROUP CREATE s g $ -> -ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
            XGROUP CREATE s g x MKSTREAM -> -ERR Invalid stream ID specified as stream command argument
            EXISTS s -> :0
            XGROUP CREATE s g $ mkstream -> +OK
            EXISTS s -> :1
            XGROUP CREATE s g 0 -> -BUSYGROUP Consumer Group name already exists
            XGROUP CREATE s h 5 ENTRIESREAD 7 MKSTREAM -> +OK
            XGROUP CREATE s i - -> -ERR Invalid stream ID specified as stream command argument
            XGROUP CREATE s i 0 ENTRIESREAD -2 -> -ERR value for ENTRIESREAD must be positive or -1
            XGROUP CREATE s i 0 ENTRIESREAD x -> -ERR value is not an integer or out of range
            XGROUP CREATE s i 0 ENTRIESREAD -> -ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.
            XGROUP create s i x MKSTREAM MKSTREAM MKSTREAM MKSTREAM -> -ERR unknown subcommand or wrong number of arguments for 'create'. Try XGROUP HELP.
            XGROUP SETID s g + ENTRIESREAD -1 -> +OK
            XGROUP SETID s g 0 MKSTREAM -> -ERR unknown subcommand or wrong number of arguments for 'SETID'. Try XGROUP HELP.
            XGROUP SETID s none x -> -NOGROUP No such consumer group 'none' for key name 's'
            XGROUP SETID none g x -> -ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
            XGROUP CREATECONSUMER s g c -> :1
            XGROUP CREATECONSUMER s g c -> :0
            XGROUP CREATECONSUMER s none c -> -NOGROUP No such consumer group 'none' for key name 's'
            XGROUP DELCONSUMER s none c -> -NOGROUP No such consumer group 'none' for key name 's'
            XGROUP DELCONSUMER s g none -> :0
            XGROUP DELCONSUMER s g c -> :0
            XGROUP DESTROY s none -> :0
            XGROUP DESTROY s g -> :1
            SET str x -> +OK
            XGROUP CREATE str g x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            XGROUP DESTROY str g -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
        assert!(
            bench
                .run("XGROUP HELP")
                .starts_with("*17 +XGROUP <subcommand> ")
        );
    }

    #[test]
    fn changes_of_groups_are_told() {
        Bench::new().event_table(
            "
            XGROUP CREATE s g $ MKSTREAM -> new s, xgroup-create s
            XGROUP CREATE s h $ -> xgroup-create s
            XGROUP SETID s g 0 -> xgroup-setid s
            XGROUP CREATECONSUMER s g c -> xgroup-createconsumer s
            XGROUP CREATECONSUMER s g c ->
            XGROUP DELCONSUMER s g none ->
            XGROUP DELCONSUMER s g c -> xgroup-delconsumer s
            XGROUP DESTROY s none ->
            XGROUP DESTROY s g -> xgroup-destroy s
            ",
        );
    }
}
