//! CLIENT LIST, INFO and KILL: connections described and closed, wherever they are.

use commands::Refused;
use protocol::{Args, Refusal, number};

use crate::admin::{Context, Done};
use crate::clients::write_line;
use crate::gather::Join;
use crate::mail::{Ask, ClientFilter};

/// The only user there is, until users can be declared.
const DEFAULT_USER: &[u8] = b"default";

pub(super) fn client_info(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let mut line = Vec::new();
    write_line(cx.conn, cx.core.now.unix_ms, &mut line);
    cx.reply.verbatim("txt", &line);
    Ok(Done::Replied)
}

pub(super) fn client_list(_: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let mut filter = ClientFilter::default();
    if args.left() == 2 && args.keyword("TYPE") {
        filter.type_normal = Some(is_normal(args.bytes()?)?);
    } else if args.left() > 1 && args.keyword("ID") {
        let mut ids = Vec::new();
        for word in args.rest() {
            let id = number::parse_i64(word).ok_or(Refusal::InvalidClientId)?;
            ids.extend(u64::try_from(id));
        }
        filter.ids = Some(ids);
    } else {
        args.end()?;
    }
    Ok(Done::Ask(Ask::ClientList(filter), Join::Text))
}

pub(super) fn client_kill(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let mut filter = ClientFilter::default();
    if args.left() == 1 {
        filter.addr = Some(args.bytes()?.to_vec());
        return Ok(Done::Ask(Ask::ClientKill(filter), Join::KilledOne));
    }
    let mut skip_me = true;
    while args.left() > 0 {
        if args.left() < 2 {
            return Err(Refusal::Syntax.into());
        }
        if args.keyword("ID") {
            let id = number::parse_i64(args.bytes()?).filter(|id| *id > 0);
            let id = id.ok_or(Refusal::Text("ERR client-id should be greater than 0"))?;
            filter.ids = Some(vec![id.unsigned_abs()]);
        } else if args.keyword("TYPE") {
            filter.type_normal = Some(is_normal(args.bytes()?)?);
        } else if args.keyword("ADDR") {
            filter.addr = Some(args.bytes()?.to_vec());
        } else if args.keyword("LADDR") {
            filter.laddr = Some(args.bytes()?.to_vec());
        } else if args.keyword("USER") {
            let user = args.bytes()?;
            if user != DEFAULT_USER {
                let text = format!("ERR No such user '{}'", String::from_utf8_lossy(user));
                return Err(Refusal::Owned(text.into()).into());
            }
            filter.user = Some(user.to_vec());
        } else if args.keyword("SKIPME") {
            skip_me = args.keyword("YES");
            if !skip_me && !args.keyword("NO") {
                return Err(Refusal::Syntax.into());
            }
        } else {
            return Err(Refusal::Syntax.into());
        }
    }
    filter.not = skip_me.then_some(cx.conn.id);
    Ok(Done::Ask(Ask::ClientKill(filter), Join::Sum))
}

/// Whether a type of clients is that of ordinary ones; the others have no members yet.
fn is_normal(word: &[u8]) -> Result<bool, Refusal> {
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    if is(b"normal") {
        return Ok(true);
    }
    if is(b"master") || is(b"replica") || is(b"slave") || is(b"pubsub") {
        return Ok(false);
    }
    let text = format!(
        "ERR Unknown client type '{}'",
        String::from_utf8_lossy(word)
    );
    Err(Refusal::Owned(text.into()))
}
