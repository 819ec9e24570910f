//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR.

use commands::Refused;
use protocol::{Args, Refusal};

use super::{Context, Done};
use crate::gather::Join;
use crate::mail::Ask;
use crate::tracking::{Mode, Tracking};

/// Options as they were given.
#[derive(Default)]
struct Options {
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    redirect: Option<u64>,
    prefixes: Vec<Box<[u8]>>,
}

pub(super) fn client_tracking(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let on = args.bytes()?;
    let options = options(&mut args)?;
    if on.eq_ignore_ascii_case(b"off") {
        cx.core.stop_tracking(cx.conn);
        cx.reply.ok();
        return Ok(Done::Replied);
    }
    if !on.eq_ignore_ascii_case(b"on") {
        return Err(Refusal::Syntax.into());
    }
    let tracking = merged(cx.conn.tracking.as_deref(), options)?;
    let (redirect, tracking) = tracking;
    match redirect {
        Some(id) => Ok(Done::Ask(
            Ask::FindClient(id),
            Join::Redirect(Box::new((id, tracking))),
        )),
        None => {
            cx.core.start_tracking(cx.conn, tracking);
            cx.reply.ok();
            Ok(Done::Replied)
        }
    }
}

fn options(args: &mut Args<'_>) -> Result<Options, Refusal> {
    let mut options = Options::default();
    while args.left() > 0 {
        if args.left() > 1 && args.keyword("REDIRECT") {
            if options.redirect.is_some() {
                return Err(Refusal::Text(
                    "ERR A client can only redirect to a single other client",
                ));
            }
            let id = u64::try_from(args.int()?).ok().filter(|id| *id > 0);
            options.redirect = Some(id.ok_or(NO_SUCH_CLIENT)?);
        } else if args.keyword("BCAST") {
            options.broadcast = true;
        } else if args.keyword("OPTIN") {
            options.opt_in = true;
        } else if args.keyword("OPTOUT") {
            options.opt_out = true;
        } else if args.keyword("NOLOOP") {
            options.noloop = true;
        } else if args.left() > 1 && args.keyword("PREFIX") {
            options.prefixes.push(args.bytes()?.into());
        } else {
            return Err(Refusal::Syntax);
        }
    }
    Ok(options)
}

/// REDIRECT names nobody.
pub(crate) const NO_SUCH_CLIENT: Refusal =
    Refusal::Text("ERR The client ID you want redirect to does not exist");

/// What the client has now and what it asks for, if they go together.
fn merged(before: Option<&Tracking>, options: Options) -> Result<(Option<u64>, Tracking), Refusal> {
    if !options.prefixes.is_empty() && !options.broadcast {
        return Err(Refusal::Text(
            "ERR PREFIX option requires BCAST mode to be enabled",
        ));
    }
    if let Some(before) = before
        && options.broadcast != (before.mode == Mode::Broadcast)
    {
        return Err(Refusal::Text(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
        ));
    }
    if options.broadcast && (options.opt_in || options.opt_out) {
        return Err(Refusal::Text(
            "ERR OPTIN and OPTOUT are not compatible with BCAST",
        ));
    }
    if options.opt_in && options.opt_out {
        return Err(Refusal::Text(
            "ERR You can't specify both OPTIN mode and OPTOUT mode",
        ));
    }
    let mode = before.map(|before| before.mode);
    if (options.opt_in && mode == Some(Mode::OptOut))
        || (options.opt_out && mode == Some(Mode::OptIn))
    {
        return Err(Refusal::Text(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
             re-enabling it with a different mode.",
        ));
    }
    let mut prefixes = before.map_or_else(Vec::new, |before| before.prefixes.clone());
    for (at, prefix) in options.prefixes.iter().enumerate() {
        let overlaps = |other: &[u8]| prefix.starts_with(other) || other.starts_with(prefix);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Of several the first by name: Redis keeps them sorted.
        if let Some(other) = prefixes.iter().filter(|other| overlaps(other)).min() {
            let (prefix, other) = (text(prefix), text(other));
            return Err(Refusal::Owned(
                format!(
                    "ERR Prefix '{prefix}' overlaps with an existing prefix '{other}'. Prefixes for a single client \
                     must not overlap."
                )
                .into(),
            ));
        }
        let later = options.prefixes.iter().skip(at + 1);
        if let Some(other) = later.into_iter().find(|other| overlaps(other)) {
            let (prefix, other) = (text(prefix), text(other));
            return Err(Refusal::Owned(
                format!(
                    "ERR Prefix '{prefix}' overlaps with another provided prefix '{other}'. Prefixes for a single \
                     client must not overlap."
                )
                .into(),
            ));
        }
    }
    let mode = match () {
        () if options.broadcast => Mode::Broadcast,
        () if options.opt_in => Mode::OptIn,
        () if options.opt_out => Mode::OptOut,
        () => Mode::All,
    };
    let any = prefixes.iter().any(|prefix| prefix.is_empty());
    if mode == Mode::Broadcast && options.prefixes.is_empty() && !any {
        // The empty prefix is that of all keys.
        prefixes.push(Box::default());
    }
    prefixes.extend(options.prefixes);
    let tracking = Tracking {
        mode,
        noloop: options.noloop,
        prefixes,
        redirect: None,
        redirect_is_broken: false,
        caching: None,
    };
    Ok((options.redirect, tracking))
}

pub(super) fn client_caching(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let Some(tracking) = &mut cx.conn.tracking else {
        return Err(Refusal::Text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        )
        .into());
    };
    if args.keyword("YES") {
        if tracking.mode != Mode::OptIn {
            return Err(Refusal::Text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            )
            .into());
        }
        tracking.caching = Some(true);
    } else if args.keyword("NO") {
        if tracking.mode != Mode::OptOut {
            return Err(Refusal::Text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            )
            .into());
        }
        tracking.caching = Some(false);
    } else {
        return Err(Refusal::Syntax.into());
    }
    cx.reply.ok();
    Ok(Done::Replied)
}

pub(super) fn client_getredir(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.int(redirect(cx));
    Ok(Done::Replied)
}

/// -1 without tracking, 0 without redirection.
fn redirect(cx: &Context<'_>) -> i64 {
    cx.conn.tracking.as_ref().map_or(-1, |tracking| {
        tracking.redirect.map_or(0, |(id, _)| id.cast_signed())
    })
}

pub(super) fn client_trackinginfo(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let mut flags = Vec::new();
    let mut prefixes: Vec<Box<[u8]>> = Vec::new();
    match &cx.conn.tracking {
        None => flags.push("off"),
        Some(tracking) => {
            flags.push("on");
            match tracking.mode {
                Mode::All => {}
                Mode::OptIn => flags.push("optin"),
                Mode::OptOut => flags.push("optout"),
                Mode::Broadcast => flags.push("bcast"),
            }
            match tracking.caching {
                Some(true) => flags.push("caching-yes"),
                Some(false) => flags.push("caching-no"),
                None => {}
            }
            if tracking.noloop {
                flags.push("noloop");
            }
            if tracking.redirect_is_broken {
                flags.push("broken_redirect");
            }
            prefixes.clone_from(&tracking.prefixes);
            prefixes.sort_unstable();
        }
    }
    let redirect = redirect(cx);
    let reply = &mut cx.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.int(redirect);
    reply.bulk(b"prefixes");
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(Done::Replied)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Client};

    /// For nodes of one to three cores: a client that tracks, in version 3, and one that changes keys.
    fn everywhere(test: impl Fn(&mut Bench, Client, Client)) {
        for cores in 1..=3 {
            let mut bench = Bench::new(cores);
            let (tracking, actor) = (bench.connect(0), bench.connect(cores - 1));
            bench.call(tracking, "HELLO 3");
            test(&mut bench, tracking, actor);
        }
    }

    fn call(bench: &mut Bench, client: Client, request: &str) -> String {
        bench.call(client, request).replace("\r\n", " ")
    }

    fn text(bench: &mut Bench, client: Client) -> String {
        String::from_utf8_lossy(&bench.received(client)).replace("\r\n", " ")
    }

    #[test]
    fn keys_that_were_read_are_told_once() {
        everywhere(|bench, client, actor| {
            assert_eq!(call(bench, client, "CLIENT TRACKING on"), "+OK ");
            call(bench, actor, "MSET a 1 b 2 c 3");
            assert_eq!(call(bench, client, "GET a"), "$1 1 ");
            call(bench, client, "MGET b c");
            call(bench, actor, "SET a 2");
            assert_eq!(text(bench, client), ">2 $10 invalidate *1 $1 a ");
            call(bench, actor, "SET a 3");
            assert_eq!(text(bench, client), "");
            call(bench, actor, "MULTI");
            call(bench, actor, "DEL b");
            call(bench, actor, "INCR c");
            call(bench, actor, "EXEC");
            let told = text(bench, client);
            for key in ["b", "c"] {
                assert!(
                    told.contains(&format!(">2 $10 invalidate *1 $1 {key} ")),
                    "{told}"
                );
            }
            // Its own changes are told as well.
            call(bench, client, "GET a");
            assert_eq!(
                call(bench, client, "SET a 4"),
                "+OK >2 $10 invalidate *1 $1 a "
            );
            call(bench, client, "SET t x PX 20");
            call(bench, client, "GET t");
            bench.advance(50);
            assert_eq!(text(bench, client), ">2 $10 invalidate *1 $1 t ");
            // One word for all, wherever they live.
            call(bench, actor, "MSET a 1 b 2 c 3 d 4 e 5");
            call(bench, client, "MGET a b c d e");
            call(bench, actor, "FLUSHALL");
            assert_eq!(text(bench, client), ">2 $10 invalidate _ ");
            assert_eq!(call(bench, client, "CLIENT TRACKING off"), "+OK ");
            call(bench, client, "GET a");
            call(bench, actor, "SET a 1");
            assert_eq!(text(bench, client), "");
        });
    }

    #[test]
    fn own_changes_can_be_left_out() {
        everywhere(|bench, client, actor| {
            call(bench, client, "CLIENT TRACKING on NOLOOP");
            call(bench, client, "GET a");
            assert_eq!(call(bench, client, "SET a 1"), "+OK ");
            call(bench, client, "GET a");
            call(bench, actor, "SET a 2");
            assert_eq!(text(bench, client), ">2 $10 invalidate *1 $1 a ");
        });
    }

    /// The keys of a transaction are on a visit: when they come home, who follows all keys has heard of them.
    #[test]
    fn a_prefix_is_told_once() {
        everywhere(|bench, client, actor| {
            call(bench, client, "CLIENT TRACKING on BCAST");
            let reader = bench.connect(0);
            call(bench, reader, "HELLO 3");
            call(bench, reader, "CLIENT TRACKING on");
            call(bench, reader, "MGET a b c");
            for request in ["MULTI", "SET a 1", "SET b 2", "SET c 3", "EXEC"] {
                call(bench, actor, request);
            }
            bench.advance(5);
            let told = text(bench, client);
            for key in ["a", "b", "c"] {
                assert_eq!(told.matches(&format!("$1 {key} ")).count(), 1, "{told}");
            }
            let told = text(bench, reader);
            for key in ["a", "b", "c"] {
                assert_eq!(told.matches(&format!("$1 {key} ")).count(), 1, "{told}");
            }
        });
    }

    /// What a transaction reads behind its own change is tracked: others may change it next.
    #[test]
    fn a_read_behind_an_own_change_is_a_new_one() {
        let script = "EVAL \"redis.call('GET',KEYS[1]) redis.call('SET',KEYS[1],1) redis.call('GET',KEYS[1]) return redis.call('GET',KEYS[2])\" 2 a d";
        everywhere(|bench, client, actor| {
            call(bench, client, "CLIENT TRACKING on NOLOOP");
            for transaction in [
                &["MULTI", "GET a", "SET a 1", "GET a", "MGET a b c", "EXEC"][..],
                &["MULTI", "GET b", "SET b 1", "MGET a b c d", "EXEC"],
                &[script],
            ] {
                for request in transaction {
                    call(bench, client, request);
                }
                assert_eq!(text(bench, client), "");
                let key = if transaction.len() == 5 { "b" } else { "a" };
                call(bench, actor, &format!("SET {key} 2"));
                let told = format!(">2 $10 invalidate *1 $1 {key} ");
                assert_eq!(text(bench, client), told, "{transaction:?}");
                call(bench, actor, &format!("SET {key} 3"));
                assert_eq!(text(bench, client), "");
            }
        });
    }

    #[test]
    fn what_is_remembered_can_be_chosen() {
        everywhere(|bench, client, actor| {
            call(bench, client, "CLIENT TRACKING on OPTIN");
            call(bench, client, "GET a");
            assert_eq!(call(bench, client, "CLIENT CACHING YES"), "+OK ");
            call(bench, client, "GET b");
            call(bench, client, "GET c");
            call(bench, actor, "MSET a 1 b 2 c 3");
            assert_eq!(text(bench, client), ">2 $10 invalidate *1 $1 b ");
            call(bench, client, "CLIENT CACHING YES");
            call(bench, client, "MULTI");
            call(bench, client, "GET b");
            assert_eq!(call(bench, client, "EXEC"), "*1 $1 2 ");
            // The transaction was what CACHING was about.
            call(bench, client, "GET a");
            call(bench, actor, "MSET a 1 b 2 c 3");
            assert_eq!(text(bench, client), ">2 $10 invalidate *1 $1 b ");
            assert_eq!(
                call(bench, client, "CLIENT CACHING NO"),
                "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode. "
            );
            call(bench, client, "CLIENT TRACKING off");
            call(bench, client, "CLIENT TRACKING on OPTOUT");
            call(bench, client, "CLIENT CACHING NO");
            call(bench, client, "GET a");
            call(bench, client, "GET b");
            call(bench, actor, "MSET a 1 b 2 c 3");
            assert_eq!(text(bench, client), ">2 $10 invalidate *1 $1 b ");
        });
    }

    #[test]
    fn prefixes_are_told_of_all_their_keys() {
        everywhere(|bench, client, actor| {
            call(
                bench,
                client,
                "CLIENT TRACKING on BCAST PREFIX user: PREFIX x",
            );
            call(bench, actor, "MSET user:1 1 other 2 x 3");
            let told = text(bench, client);
            for key in ["$6 user:1", "$1 x"] {
                assert!(
                    told.contains(&format!(">2 $10 invalidate *1 {key} ")),
                    "{told}"
                );
            }
            assert!(!told.contains("other"));
            assert_eq!(
                call(bench, client, "CLIENT TRACKING on BCAST PREFIX user:1"),
                "-ERR Prefix 'user:1' overlaps with an existing prefix 'user:'. Prefixes for a single client must \
                 not overlap. "
            );
            assert_eq!(
                call(bench, client, "CLIENT TRACKINGINFO"),
                "%3 $5 flags ~2 $2 on $5 bcast $8 redirect :0 $8 prefixes *2 $5 user: $1 x "
            );
            bench.close(client);
            call(bench, actor, "SET x 1");
        });
    }

    /// One message for all keys of a request, and what was read before BCAST is forgotten.
    #[test]
    fn keys_of_a_prefix_are_told_together() {
        everywhere(|bench, client, actor| {
            call(bench, client, "CLIENT TRACKING on");
            call(bench, client, "GET a{t}");
            call(bench, client, "CLIENT TRACKING off");
            call(bench, client, "CLIENT TRACKING on BCAST");
            call(bench, actor, "MSET b{t} 1 a{t} 2 c{t} 3 a{t} 4");
            assert_eq!(
                text(bench, client),
                ">2 $10 invalidate *3 $4 a{t} $4 b{t} $4 c{t} "
            );
        });
    }

    #[test]
    fn the_table_is_cut_when_its_bound_is_lowered() {
        let mut bench = Bench::new(1);
        let (client, actor) = (bench.connect(0), bench.connect(0));
        bench.call(client, "HELLO 3");
        bench.call(client, "CLIENT TRACKING on");
        bench.call(client, "MGET a b");
        bench.call(actor, "CONFIG SET tracking-table-max-keys 1");
        let told = text(&mut bench, client);
        assert_eq!(told.matches("invalidate").count(), 1, "{told}");
    }

    #[test]
    fn another_connection_is_told() {
        everywhere(|bench, client, actor| {
            let listener = actor;
            let id = call(bench, listener, "CLIENT ID");
            let id = id.trim().trim_start_matches(':').to_owned();
            call(bench, listener, "SUBSCRIBE __redis__:invalidate");
            assert_eq!(
                call(bench, client, &format!("CLIENT TRACKING on REDIRECT {id}")),
                "+OK "
            );
            assert_eq!(call(bench, client, "CLIENT GETREDIR"), format!(":{id} "));
            call(bench, client, "GET a");
            assert_eq!(call(bench, client, "SET a 1"), "+OK ");
            assert_eq!(
                text(bench, listener),
                "*3 $7 message $20 __redis__:invalidate *1 $1 a "
            );
            call(bench, client, "GET a");
            bench.close(listener);
            assert_eq!(
                call(bench, client, "SET a 1"),
                format!("+OK >2 $21 tracking-redir-broken :{id} ")
            );
            assert_eq!(
                call(bench, client, "CLIENT TRACKING on REDIRECT 999999"),
                "-ERR The client ID you want redirect to does not exist "
            );
        });
    }

    /// A transaction over cores is on a visit everywhere: what it only reads has not changed, what it changes is its own.
    #[test]
    fn a_transaction_is_tracked_as_single_requests_are() {
        everywhere(|bench, client, actor| {
            call(bench, client, "CLIENT TRACKING on NOLOOP");
            for request in ["MULTI", "GET a", "SET b 1", "GET b", "GET c", "SET c 1"] {
                call(bench, client, request);
            }
            let replies = call(bench, client, "EXEC");
            assert!(replies.starts_with("*5 _ +OK $1 1 _ +OK "), "{replies}");
            assert!(!replies.contains("invalidate"), "{replies}");
            assert_eq!(text(bench, client), "");
            call(bench, actor, "SET a 1");
            assert_eq!(text(bench, client), ">2 $10 invalidate *1 $1 a ");
        });
    }

    /// What the client has chosen when a key changes counts, not what it had chosen when it read the key.
    #[test]
    fn options_may_change_after_a_read() {
        everywhere(|bench, client, actor| {
            let id = call(bench, actor, "CLIENT ID");
            let id = id.trim().trim_start_matches(':').to_owned();
            call(bench, client, "CLIENT TRACKING on OPTIN NOLOOP");
            call(bench, client, "CLIENT CACHING YES");
            call(bench, client, "GET a");
            assert_eq!(call(bench, client, "CLIENT TRACKING on"), "+OK ");
            assert_eq!(
                call(bench, client, "SET a 1"),
                "+OK >2 $10 invalidate *1 $1 a "
            );
            call(bench, client, "GET a");
            call(bench, client, &format!("CLIENT TRACKING on REDIRECT {id}"));
            call(bench, actor, "SUBSCRIBE any");
            assert_eq!(call(bench, client, "SET a 2"), "+OK ");
            assert_eq!(
                text(bench, actor),
                "*3 $7 message $20 __redis__:invalidate *1 $1 a "
            );
            assert_eq!(
                call(bench, client, "CLIENT TRACKING on REDIRECT 0"),
                "-ERR The client ID you want redirect to does not exist "
            );
            assert_eq!(
                call(bench, client, "CLIENT CACHING YES"),
                "-ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode. "
            );
        });
    }

    #[test]
    fn options_that_do_not_go_together() {
        everywhere(|bench, client, _| {
            for (options, error) in [
                ("maybe", "syntax error"),
                (
                    "on OPTIN OPTOUT",
                    "You can't specify both OPTIN mode and OPTOUT mode",
                ),
                (
                    "on BCAST OPTIN",
                    "OPTIN and OPTOUT are not compatible with BCAST",
                ),
                (
                    "on PREFIX a",
                    "PREFIX option requires BCAST mode to be enabled",
                ),
                ("on what", "syntax error"),
            ] {
                assert_eq!(
                    call(bench, client, &format!("CLIENT TRACKING {options}")),
                    format!("-ERR {error} ")
                );
            }
            assert_eq!(
                call(bench, client, "CLIENT TRACKINGINFO"),
                "%3 $5 flags ~1 $3 off $8 redirect :-1 $8 prefixes *0 "
            );
        });
    }
}
