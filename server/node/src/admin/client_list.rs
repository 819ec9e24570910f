//! CLIENT LIST, INFO and KILL: connections described and closed, wherever they are.

use commands::Refused;
use protocol::{Args, Refusal, number};

use crate::admin::{Context, Done};
use crate::clients::write_line;
use crate::gather::Join;
use crate::mail::{Ask, ClientFilter, ClientKind};

pub(super) fn client_info(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let mut line = Vec::new();
    write_line(cx.conn, cx.core, &mut line);
    cx.reply.verbatim("txt", &line);
    Ok(Done::Replied)
}

pub(super) fn client_list(_: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let mut filter = ClientFilter::default();
    if args.left() == 2 && args.keyword("TYPE") {
        filter.kind = Some(kind_named(args.bytes()?)?);
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
            filter.kind = Some(kind_named(args.bytes()?)?);
        } else if args.keyword("ADDR") {
            filter.addr = Some(args.bytes()?.to_vec());
        } else if args.keyword("LADDR") {
            filter.laddr = Some(args.bytes()?.to_vec());
        } else if args.keyword("USER") {
            let user = args.bytes()?;
            if cx.core.users.get(user).is_none() {
                let text = format!("ERR No such user '{}'", String::from_utf8_lossy(user));
                return Err(Refusal::Owned(text.into()).into());
            }
            filter.user = Some(user.to_vec());
        } else if args.keyword("MAXAGE") {
            let age = number::parse_i64(args.bytes()?).ok_or(Refusal::Text(
                "ERR maxage is not an integer or out of range",
            ))?;
            let age = u64::try_from(age).ok().filter(|age| *age > 0);
            filter.age_min_s =
                Some(age.ok_or(Refusal::Text("ERR maxage should be greater than 0"))?);
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

/// The kind of clients with this name.
fn kind_named(word: &[u8]) -> Result<ClientKind, Refusal> {
    let kinds = [
        (&b"normal"[..], ClientKind::Normal),
        (b"master", ClientKind::Primary),
        (b"replica", ClientKind::Replica),
        (b"slave", ClientKind::Replica),
        (b"pubsub", ClientKind::Pubsub),
    ];
    let mut named = kinds.iter();
    if let Some((_, kind)) = named.find(|(name, _)| word.eq_ignore_ascii_case(name)) {
        return Ok(*kind);
    }
    let text = format!(
        "ERR Unknown client type '{}'",
        String::from_utf8_lossy(word)
    );
    Err(Refusal::Owned(text.into()))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Client};

    /// A bench with a client on each core.
    fn bench(cores: usize) -> (Bench, Vec<Client>) {
        let mut bench = Bench::new(cores);
        let clients = (0..cores).map(|core| bench.connect(core)).collect();
        (bench, clients)
    }

    #[test]
    fn connections_of_all_cores_are_listed_and_closed() {
        for cores in [1, 2, 3] {
            let (mut bench, clients) = bench(cores);
            let me = clients[0];
            let other = bench.connect(cores - 1);
            assert_eq!(bench.call(other, "CLIENT SETNAME other"), "+OK\r\n");
            let list = bench.call(me, "CLIENT LIST");
            assert_eq!(list.matches("\nid=").count(), cores + 1);
            assert!(list.contains(" name=other "), "{list}");
            assert!(list.contains(" cmd=client|list "), "{list}");
            let info = bench.call(other, "CLIENT INFO");
            assert!(info.contains(" addr=127.0.0.1:") && info.contains(" user=default "));
            let id = bench.call(other, "CLIENT ID");
            let id = id.trim_end().trim_start_matches(':').to_owned();
            let one = bench.call(me, &format!("CLIENT LIST ID {id} 999"));
            assert_eq!(one.matches("id=").count(), 1);
            assert_eq!(bench.call(me, "CLIENT LIST TYPE pubsub"), "$0\r\n\r\n");
            assert_eq!(bench.call(me, "CLIENT KILL ID 999"), ":0\r\n");
            assert_eq!(bench.call(me, "CLIENT KILL MAXAGE 1000000"), ":0\r\n");
            assert_eq!(bench.call(me, &format!("CLIENT KILL ID {id}")), ":1\r\n");
            assert!(bench.is_closed(other) && !bench.is_closed(me));
            assert_eq!(
                bench.call(me, "CLIENT KILL TYPE normal"),
                format!(":{}\r\n", cores - 1)
            );
            let mine = bench.call(me, "CLIENT LIST");
            let addr = mine
                .split(" addr=")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            let kill = format!("CLIENT KILL {}", addr.unwrap());
            assert_eq!(bench.call(me, &kill), "+OK\r\n");
            assert!(bench.is_closed(me));
        }
    }

    #[test]
    fn mistakes_are_told_as_redis_tells_them() {
        let (mut bench, clients) = bench(2);
        let cases = [
            ("LIST TYPE x", "ERR Unknown client type 'x'"),
            ("LIST ID x", "ERR Invalid client ID"),
            ("LIST x", "ERR syntax error"),
            ("KILL 1.2.3.4:5", "ERR No such client"),
            ("KILL ID 0", "ERR client-id should be greater than 0"),
            ("KILL USER x", "ERR No such user 'x'"),
            ("KILL SKIPME maybe", "ERR syntax error"),
            ("KILL ID 1 SKIPME", "ERR syntax error"),
            ("KILL MAXAGE", "ERR No such client"),
            (
                "KILL MAXAGE x",
                "ERR maxage is not an integer or out of range",
            ),
            ("KILL MAXAGE 0", "ERR maxage should be greater than 0"),
            ("NO-EVICT x", "ERR syntax error"),
            ("NO-TOUCH x", "ERR syntax error"),
            ("REPLY x", "ERR syntax error"),
            ("UNBLOCK x", "ERR value is not an integer or out of range"),
            (
                "UNBLOCK 9 x",
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ),
            (
                "UNBLOCK 9 TIMEOUT x",
                "ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
            ),
            ("PAUSE x", "ERR timeout is not an integer or out of range"),
            ("PAUSE -1", "ERR timeout is negative"),
            ("PAUSE 9223372036854775807", "ERR timeout is out of range"),
            ("PAUSE 1 x", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
            (
                "PAUSE 1 ALL x",
                "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.",
            ),
            ("SETINFO x y", "ERR Unrecognized option 'x'"),
            (
                "SETINFO lib-ver \u{1}",
                "ERR lib-ver cannot contain spaces, newlines or special characters.",
            ),
            ("TRACKING x", "ERR syntax error"),
            ("TRACKING off x", "ERR syntax error"),
            (
                "MAINT_NOTIFICATIONS on",
                "ERR CLIENT MAINT_NOTIFICATIONS needs RESP3: what it asks for are push messages",
            ),
            (
                "MAINT_NOTIFICATIONS on moving-endpoint-type x",
                "ERR syntax error",
            ),
            (
                "ID x",
                "ERR wrong number of arguments for 'client|id' command",
            ),
        ];
        for (request, error) in cases {
            let reply = bench.call(clients[1], &format!("CLIENT {request}"));
            assert_eq!(reply, format!("-{error}\r\n"), "{request}");
        }
        let cases = [
            ("GETNAME", "$-1\r\n"),
            ("SETINFO LIB-NAME lib", "+OK\r\n"),
            ("GETREDIR", ":-1\r\n"),
            ("UNBLOCK 9 ERROR", ":0\r\n"),
            ("TRACKING OFF", "+OK\r\n"),
            ("NO-TOUCH on", "+OK\r\n"),
            (
                "MAINT_NOTIFICATIONS off moving-endpoint-type none",
                "+OK\r\n",
            ),
        ];
        for (request, expected) in cases {
            let reply = bench.call(clients[1], &format!("CLIENT {request}"));
            assert_eq!(reply, expected, "{request}");
        }
        let info = bench.call(clients[1], "CLIENT INFO");
        assert!(info.contains(" lib-name=lib lib-ver=\n") && info.contains(" flags=T "));
    }

    #[test]
    fn replies_are_left_out_when_not_wanted() {
        for cores in [1, 2] {
            let (mut bench, clients) = bench(cores);
            let me = clients[0];
            let pipeline = "CLIENT REPLY SKIP\r\nSET a 1\r\nPING 1\r\nCLIENT REPLY OFF\r\nSET b 2\r\nGET a\r\n\
                            CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nGET b\r\n";
            bench.send(me, pipeline.as_bytes());
            let got = bench.received(me);
            assert_eq!(got, b"$1\r\n1\r\n+OK\r\n$1\r\n2\r\n");
        }
    }

    #[test]
    fn what_a_subscriber_is_told_is_no_reply() {
        for cores in [1, 2] {
            let (mut bench, clients) = bench(cores);
            let (me, other) = (clients[0], bench.connect(cores - 1));
            bench.send(me, b"CLIENT REPLY OFF\r\nSUBSCRIBE c\r\n");
            let got = bench.received(me);
            assert_eq!(got, b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
            assert_eq!(bench.call(other, "PUBLISH c m"), ":1\r\n");
            let got = bench.received(me);
            assert_eq!(got, b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
        }
    }

    #[test]
    fn reads_of_a_client_that_does_not_touch_leave_no_trace() {
        for cores in [1, 2] {
            let (mut bench, clients) = bench(cores);
            let (me, other) = (clients[0], clients[cores - 1]);
            for key in ["a", "b", "c"] {
                bench.call(me, &format!("SET {key} 1"));
            }
            bench.advance(5000);
            assert_eq!(bench.call(me, "CLIENT NO-TOUCH ON"), "+OK\r\n");
            for request in ["GET a", "GET b", "MGET a b c", "STRLEN c"] {
                bench.call(me, request);
            }
            for key in ["a", "b", "c"] {
                assert_eq!(
                    bench.call(other, &format!("OBJECT IDLETIME {key}")),
                    ":5\r\n"
                );
            }
            assert_eq!(bench.call(me, "TOUCH a"), ":1\r\n");
            assert_eq!(bench.call(other, "OBJECT IDLETIME a"), ":0\r\n");
        }
    }

    #[test]
    fn a_pause_holds_commands_back_until_it_ends() {
        for cores in [1, 2] {
            let (mut bench, clients) = bench(cores);
            let (me, other) = (clients[0], bench.connect(cores - 1));
            assert_eq!(bench.call(me, "CLIENT PAUSE 100 WRITE"), "+OK\r\n");
            assert_eq!(bench.call(other, "GET a"), "$-1\r\n");
            assert_eq!(bench.call(other, "SET a 1"), "");
            bench.advance(101);
            assert_eq!(bench.received(other), b"+OK\r\n");
            assert_eq!(bench.call(me, "CLIENT PAUSE 100000"), "+OK\r\n");
            assert_eq!(bench.call(other, "GET a"), "");
            assert_eq!(bench.call(me, "CLIENT UNPAUSE"), "+OK\r\n");
            assert_eq!(bench.received(other), b"$1\r\n1\r\n");
        }
    }

    #[test]
    fn a_pause_keeps_what_has_expired() {
        for cores in [1, 2] {
            let (mut bench, clients) = bench(cores);
            let me = clients[0];
            for key in ["a", "b", "c", "d"] {
                bench.call(me, &format!("SET {key} 1 PX 10"));
            }
            bench.call(me, "CLIENT PAUSE 100000 WRITE");
            bench.advance(50);
            assert_eq!(bench.call(me, "EXISTS a b c d"), ":0\r\n");
            assert_eq!(bench.call(me, "DBSIZE"), ":4\r\n");
            bench.call(me, "CLIENT UNPAUSE");
            bench.advance(1);
            assert_eq!(bench.call(me, "DBSIZE"), ":0\r\n");
            bench.call(me, "SET a 1 PX 10");
            bench.call(me, "CLIENT PAUSE 100 WRITE");
            bench.advance(200);
            assert_eq!(bench.call(me, "DBSIZE"), ":0\r\n");
            let stats = bench.call(me, "INFO stats");
            assert!(stats.contains("expired_keys:5\r\n"), "{stats}");
        }
    }
}
