//! CLIENT and its subcommands.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};

use crate::admin::{Context, Done, NodeCommand};
use crate::connection::Connection;

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "client",
            summary: "Commands about connections.",
            group: Group::Connection,
            since: "2.4.0",
            arity: Arity::at_least(2),
            flags: Flags::SENTINEL,
            acl: Acl::SLOW,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "client|id",
            summary: "Tells the number of the connection.",
            group: Group::Connection,
            since: "5.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(client_id),
    },
];

fn client_id(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.int(cx.conn.id.cast_signed());
    Ok(Done::Replied)
}

/// Sets a connection's name; an empty one takes it away.
///
/// # Errors
/// The refusal of a name with blanks, line ends or other special characters.
pub(super) fn set_name(conn: &mut Connection, name: &[u8]) -> Result<(), Refusal> {
    if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Err(Refusal::Text(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    conn.names.get_or_insert_default().name = name.to_vec();
    Ok(())
}
