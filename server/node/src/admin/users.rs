//! ACL: users made, changed, shown and deleted; what was denied; passwords made up.
//!
//! A change is made once, in `Node`, and its reply waits until every core has taken the users over: whoever hears of a
//! change finds it in force everywhere.

use std::sync::PoisonError;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, Word, number};

use crate::acl::{self, Grammar, Selector, User, Users, has_blanks, password};
use crate::admin::{Context, Done, NodeCommand, help};
use crate::config::os_text;
use crate::gather::Join;
use crate::mail::Ask;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "6.0.0",
    arity: Arity::exactly(2),
    group: Group::Server,
    flags: Flags::ADMIN
        .and(Flags::LOADING)
        .and(Flags::NOSCRIPT)
        .and(Flags::SENTINEL)
        .and(Flags::STALE),
    acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

/// What the rows for everybody have in common.
const OPEN: Spec = Spec {
    flags: BASE.flags.without(Flags::ADMIN),
    acl: Acl::SLOW,
    ..BASE
};

/// Hints of those that change all nodes of a cluster.
const ON_ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

/// Entries of ACL LOG that are told unless another number is asked for.
const LOG_ENTRIES_TOLD: i64 = 10;
/// Bits of a password that ACL GENPASS makes unless another number is asked for.
const GENERATED_BITS: i64 = 256;
/// Bytes of an unknown category that are told.
const UNKNOWN_BYTES_TOLD: usize = 128;
/// Word of ACL DRYRUN at which the command begins.
const DRYRUN_AT: usize = 3;

const NO_FILE: Refusal = Refusal::Text(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.",
);
const NOT_SAVED: Refusal = Refusal::Text(
    "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
);

macro_rules! command {
    ($base:ident $name:literal $summary:literal $run:expr, $($field:ident: $value:expr),*) => {
        NodeCommand {
            spec: Spec { name: $name, summary: $summary, $($field: $value,)* ..$base },
            run: $run,
        }
    };
}

pub(super) const COMMANDS: &[NodeCommand] = &[
    command!(BASE "acl" "Commands about users." None,
        arity: Arity::at_least(2), flags: Flags::SENTINEL, acl: Acl::SLOW),
    command!(OPEN "acl|cat" "Lists categories, or the commands of one." Some(acl_cat),
        arity: Arity::at_least(2)),
    command!(BASE "acl|deluser" "Deletes users and closes their connections." Some(acl_deluser),
        arity: Arity::at_least(3), tips: ON_ALL_NODES),
    command!(BASE "acl|dryrun" "Tells whether a user may run a command, without running it." Some(acl_dryrun),
        arity: Arity::at_least(4), since: "7.0.0"),
    command!(OPEN "acl|genpass" "Makes up a password." Some(acl_genpass),
        arity: Arity::at_least(2)),
    command!(BASE "acl|getuser" "Tells the rules of a user." Some(acl_getuser),
        arity: Arity::exactly(3)),
    command!(OPEN "acl|help" "Lists the subcommands." Some(help),
        flags: Flags::LOADING.and(Flags::SENTINEL).and(Flags::STALE)),
    command!(BASE "acl|list" "Lists the users as lines of a configuration file." Some(acl_list),),
    command!(BASE "acl|load" "Takes the users of the ACL file." Some(acl_load),),
    command!(BASE "acl|log" "Lists what was denied lately, or forgets it." Some(acl_log),
        arity: Arity::at_least(2)),
    command!(BASE "acl|save" "Writes the users to the ACL file." Some(acl_save),
        tips: ON_ALL_NODES),
    command!(BASE "acl|setuser" "Makes a user or changes its rules." Some(acl_setuser),
        arity: Arity::at_least(3), tips: ON_ALL_NODES),
    command!(BASE "acl|users" "Lists the names of users." Some(acl_users),),
    command!(OPEN "acl|whoami" "Tells the user of the connection." Some(acl_whoami),),
];

fn owned(text: String) -> Refused {
    Refusal::Owned(text.into()).into()
}

fn grammar<'a>(cx: &Context<'a>) -> Grammar<'a> {
    acl::grammar(&cx.core.config, cx.core.table)
}

/// Changes the users; the reply is told when every core has taken them over.
fn change<T>(
    cx: &mut Context<'_>,
    change: impl FnOnce(&mut Users) -> Result<T, String>,
) -> Result<Option<T>, Refused> {
    if cx.conn.outbound.outstanding() > 0 {
        // It is called again when the replies before it are there: nothing has changed yet.
        return Ok(None);
    }
    let changed = cx.core.node.change_users(change);
    let changed = changed.map_err(|text| owned(format!("ERR {text}")))?;
    cx.core.take_users();
    Ok(Some(changed))
}

fn acl_setuser(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let name = args.bytes()?;
    if has_blanks(name) {
        let text = "ERR Usernames can't contain spaces or null characters";
        return Err(Refusal::Text(text).into());
    }
    let grammar = grammar(cx);
    let rules: Vec<Vec<u8>> = args.rest().map(<[u8]>::to_vec).collect();
    change(cx, |users| users.set(grammar, name, &rules))?;
    Ok(Done::Ask(Ask::Users, Join::Ok))
}

fn acl_deluser(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    if args.rest().any(|name| name == acl::DEFAULT_USER) {
        let text = "ERR The 'default' user cannot be removed";
        return Err(Refusal::Text(text).into());
    }
    let removed = change(cx, |users| Ok(users.remove(args.rest())))?.unwrap_or(0);
    Ok(Done::Ask(Ask::Users, Join::Count(removed as i64)))
}

fn acl_load(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let (config, table) = (cx.core.config.clone(), cx.core.table);
    if config.aclfile.is_empty() {
        return Err(NO_FILE.into());
    }
    change(cx, |users| acl::from_file(users, &config, table))?;
    Ok(Done::Ask(Ask::Users, Join::Ok))
}

fn acl_save(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    if cx.core.config.aclfile.is_empty() {
        return Err(NO_FILE.into());
    }
    if let Err(error) = acl::save(&cx.core.users, &cx.core.config) {
        eprintln!("ACL SAVE: {}", os_text(&error));
        return Err(NOT_SAVED.into());
    }
    cx.reply.ok();
    Ok(Done::Replied)
}

fn acl_cat(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 1 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    if args.left() == 0 {
        let names = Acl::all_names();
        cx.reply.array(names.clone().count());
        names.for_each(|name| cx.reply.bulk(name.as_bytes()));
        return Ok(Done::Replied);
    }
    let name = args.bytes()?;
    let Some(category) = Acl::from_name(name) else {
        // Redis prints it as a C string.
        let end = memchr::memchr(0, name).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..end.min(UNKNOWN_BYTES_TOLD)]);
        return Err(owned(format!("ERR Unknown category '{name}'")));
    };
    let rows = cx.core.table.rows().iter();
    let members = rows.filter(|row| row.spec.acl.contains(category));
    cx.reply.array(members.clone().count());
    members.for_each(|row| cx.reply.bulk(row.spec.name.as_bytes()));
    Ok(Done::Replied)
}

fn acl_users(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let users = cx.core.users.iter();
    cx.reply.array(users.len());
    users.for_each(|user| cx.reply.bulk(&user.name));
    Ok(Done::Replied)
}

fn acl_list(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let users = cx.core.users.iter();
    cx.reply.array(users.len());
    users.for_each(|user| cx.reply.bulk(&user.line()));
    Ok(Done::Replied)
}

fn acl_whoami(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.bulk(&cx.conn.user.name);
    Ok(Done::Replied)
}

fn acl_getuser(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    match cx.core.users.get(args.bytes()?) {
        Some(user) => write_user(user, &mut cx.reply),
        None => cx.reply.null(),
    }
    Ok(Done::Replied)
}

fn write_user(user: &User, reply: &mut Reply<'_>) {
    reply.map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords.len());
    user.passwords
        .iter()
        .for_each(|hash| reply.bulk(hash.digits()));
    write_selector(&user.root, reply);
    reply.bulk(b"selectors");
    reply.array(user.selectors.len());
    for selector in &user.selectors {
        reply.map(3);
        write_selector(selector, reply);
    }
}

fn write_selector(selector: &Selector, reply: &mut Reply<'_>) {
    reply.bulk(b"commands");
    reply.bulk(&selector.told_commands());
    reply.bulk(b"keys");
    reply.bulk(&selector.told_keys());
    reply.bulk(b"channels");
    reply.bulk(&selector.told_channels());
}

fn acl_genpass(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 1 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let bits = match args.peek() {
        Some(word) => number::parse_i64(word).ok_or(Refusal::NotInteger)?,
        None => GENERATED_BITS,
    };
    let max = password::GENERATED_BITS_MAX;
    if !(1..=max).contains(&bits) {
        return Err(owned(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to {max}"
        )));
    }
    let password = password::generate(bits);
    let password = password.ok_or(Refusal::Text("ERR the system gives no random numbers"))?;
    cx.reply.bulk(&password);
    Ok(Done::Replied)
}

fn acl_log(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 1 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let log = cx.core.node.acl_log.lock();
    let mut log = log.unwrap_or_else(PoisonError::into_inner);
    if args.keyword("RESET") {
        log.reset();
        cx.reply.ok();
        return Ok(Done::Replied);
    }
    let count = match args.peek() {
        Some(word) => number::parse_i64(word).ok_or(Refusal::NotInteger)?,
        None => LOG_ENTRIES_TOLD,
    };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    log.write(count, cx.core.now.unix_ms, &mut cx.reply);
    Ok(Done::Replied)
}

fn acl_dryrun(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let name = args.bytes()?;
    // Redis prints them as C strings.
    let told = |word: &[u8]| {
        let end = memchr::memchr(0, word).unwrap_or(word.len());
        String::from_utf8_lossy(&word[..end]).into_owned()
    };
    let Some(user) = cx.core.users.get(name) else {
        return Err(owned(format!("ERR User '{}' not found", told(name))));
    };
    let table = cx.core.table;
    let command = args.bytes()?;
    let found = table.find(command);
    let row = match (found, args.peek()) {
        (Some(row), Some(subcommand)) if !row.subcommands.is_empty() => {
            table.subcommand(row, subcommand)
        }
        _ => found,
    };
    let Some(row) = row else {
        return Err(owned(format!("ERR Command '{}' not found", told(command))));
    };
    let (mut buf, mut words) = (Vec::new(), Vec::new());
    for index in DRYRUN_AT..args.total() {
        let word = args.word(index).unwrap_or_default();
        words.push(Word {
            start: buf.len() as u32,
            len: word.len() as u32,
        });
        buf.extend_from_slice(word);
    }
    let asked = Args::new(&buf, &words);
    if !row.spec.arity.accepts(asked.total()) {
        return Err(Refusal::arity(row.spec.name).into());
    }
    match user.check(row, &asked) {
        Ok(()) => cx.reply.ok(),
        Err(denied) => cx.reply.bulk(&denied.told(user, row, &asked)),
    }
    Ok(Done::Replied)
}
