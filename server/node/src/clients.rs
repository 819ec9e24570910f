//! The connections of one core, by their index in the runtime.

use runtime::{ConnId, Peer};

use crate::acl::Users;
use crate::connection::Connection;
use crate::core::Core;
use crate::mail::{ClientFilter, ClientKind};
use crate::pubsub::Topic;
use crate::tracking::Mode;

/// How often idle clients are looked for, ms.
const IDLE_LOOK_MS: u64 = 1000;

/// See the module's head.
#[derive(Default)]
pub struct Clients {
    slab: Vec<Option<Box<Connection>>>,
    len: usize,
    idle_looked_ms: u64,
}

impl Clients {
    /// Connections.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slab.iter().flatten().map(|client| &**client)
    }

    /// As `iter`.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().flatten().map(|client| &mut **client)
    }

    /// Adds one.
    pub fn insert(&mut self, client: Box<Connection>) {
        let index = client.conn.index();
        if index >= self.slab.len() {
            self.slab.resize_with(index + 1, || None);
        }
        self.slab[index] = Some(client);
        self.len += 1;
    }

    /// The connection, unless it has gone.
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.slab
            .get_mut(conn.index())?
            .as_deref_mut()
            .filter(|client| client.conn == conn)
    }

    /// Takes a connection out while its requests run; [`Clients::put_back`] must follow.
    #[inline]
    pub fn take(&mut self, conn: ConnId) -> Option<Box<Connection>> {
        let place = self.slab.get_mut(conn.index())?;
        place.take_if(|client| client.conn == conn)
    }

    /// See [`Clients::take`].
    #[inline]
    pub fn put_back(&mut self, client: Box<Connection>) {
        let index = client.conn.index();
        debug_assert!(self.slab[index].is_none());
        self.slab[index] = Some(client);
    }

    /// Removes one.
    pub fn remove(&mut self, conn: ConnId) -> Option<Box<Connection>> {
        let client = self.take(conn)?;
        self.len -= 1;
        Some(client)
    }

    /// Connections that have sent nothing for so long; looks once a second.
    pub fn idle(&mut self, now_ms: u64, timeout_ms: u64) -> Vec<ConnId> {
        if now_ms < self.next_idle_look_ms(now_ms) {
            return Vec::new();
        }
        self.idle_looked_ms = now_ms;
        let idle = |client: &&Connection| {
            !client.is_blocked()
                && !client.is_replica()
                && now_ms.saturating_sub(client.active_ms) > timeout_ms
        };
        self.iter().filter(idle).map(|client| client.conn).collect()
    }

    /// When [`Clients::idle`] looks next, unix ms.
    pub fn next_idle_look_ms(&self, now_ms: u64) -> u64 {
        // A clock that was set back must not put this off.
        self.idle_looked_ms.min(now_ms) + IDLE_LOOK_MS
    }

    /// The connections that a filter means.
    pub fn matching(&self, filter: &ClientFilter, now_ms: u64) -> Vec<ConnId> {
        self.iter()
            .filter(|client| matches(filter, client, now_ms))
            .map(|client| client.conn)
            .collect()
    }

    /// The connections whose users are not there any more.
    pub fn of_deleted_users(&self, users: &Users) -> Vec<ConnId> {
        let is_gone = |client: &&Connection| users.again(&client.user).is_none();
        self.iter()
            .filter(is_gone)
            .map(|client| client.conn)
            .collect()
    }

    /// A line for each connection that a filter means, as CLIENT LIST shows it.
    pub fn list(&self, filter: &ClientFilter, core: &Core, out: &mut Vec<u8>) {
        let now_ms = core.now.unix_ms;
        for client in self.iter().filter(|client| matches(filter, client, now_ms)) {
            write_line(client, core, out);
        }
    }
}

impl Connection {
    /// The address that CLIENT LIST shows.
    pub fn addr(&self) -> String {
        match self.peer {
            Peer::Tcp { peer, .. } => peer.to_string(),
            Peer::Unix => "/:0".to_owned(),
        }
    }

    /// Our address that CLIENT LIST shows.
    pub fn laddr(&self) -> String {
        match self.peer {
            Peer::Tcp { local, .. } => local.to_string(),
            Peer::Unix => "/:0".to_owned(),
        }
    }
}

fn matches(filter: &ClientFilter, client: &Connection, now_ms: u64) -> bool {
    let age_s = now_ms.saturating_sub(client.since_ms) / 1000;
    filter
        .ids
        .as_ref()
        .is_none_or(|ids| ids.contains(&client.id))
        && filter
            .addr
            .as_ref()
            .is_none_or(|addr| addr == client.addr().as_bytes())
        && filter
            .laddr
            .as_ref()
            .is_none_or(|laddr| laddr == client.laddr().as_bytes())
        && filter
            .user
            .as_ref()
            .is_none_or(|user| *user == client.user.name)
        && filter.kind.is_none_or(|kind| kind == kind_of(client))
        && filter.not.is_none_or(|not| not != client.id)
        && filter.age_min_s.is_none_or(|min| age_s >= min)
        && !client.closing
}

/// Which kind of client a connection is, as Redis sorts them.
fn kind_of(client: &Connection) -> ClientKind {
    if client.is_replica() {
        ClientKind::Replica
    } else if client.subscriptions.is_some() {
        ClientKind::Pubsub
    } else {
        ClientKind::Normal
    }
}

/// One client as CLIENT LIST and CLIENT INFO show it (Redis 7.2's fields).
pub fn write_line(client: &Connection, core: &Core, out: &mut Vec<u8>) {
    let now_ms = core.now.unix_ms;
    let names = client.names.as_deref();
    let text = |bytes: Option<&Vec<u8>>| {
        String::from_utf8_lossy(bytes.map_or(&b""[..], Vec::as_slice)).into_owned()
    };
    let multi = client.multi.as_deref();
    let queued = multi
        .filter(|multi| multi.open)
        .map_or(-1, |multi| multi.queued.len() as i64);
    let mut flags = String::new();
    if client.is_replica() {
        flags.push('S');
    }
    if client.monitor {
        flags.push('O');
    }
    if queued >= 0 {
        flags.push('x');
    }
    if client.subscriptions.is_some() {
        flags.push('P');
    }
    if client.is_blocked() {
        flags.push('b');
    }
    if let Some(tracking) = client.tracking.as_deref() {
        flags.push('t');
        if tracking.redirect_is_broken {
            flags.push('R');
        }
        if tracking.mode == Mode::Broadcast {
            flags.push('B');
        }
    }
    if client.closing {
        flags.push('c');
    }
    if client.no_evict {
        flags.push('e');
    }
    if client.no_touch {
        flags.push('T');
    }
    if matches!(client.peer, Peer::Unix) {
        flags.push('U');
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let input = client
        .partial
        .as_ref()
        .map_or(0, |partial| partial.input.len());
    let is_running = client.received == core.tally.received;
    let input = input + if is_running { client.running_bytes } else { 0 };
    let redirect = client.tracking.as_deref().map_or(-1, |tracking| {
        tracking.redirect.map_or(0, |(id, _)| id.cast_signed())
    });
    let output = client.outbound.bytes() + client.sending_bytes.unwrap_or(0);
    let memory = client.memory_bytes() + if is_running { client.running_bytes } else { 0 };
    let listens = |topic| {
        let subscriptions = client.subscriptions.as_ref();
        subscriptions.map_or(0, |subscriptions| subscriptions.len(topic))
    };
    let line = format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} \
         qbuf={} qbuf-free=0 argv-mem=0 multi-mem={} rbs=0 rbp=0 obl={} oll=0 omem={} tot-mem={} events={} cmd={} \
         user={} redir={} resp={} lib-name={} lib-ver={}\n",
        client.id,
        client.addr(),
        client.laddr(),
        client.fd,
        text(names.map(|names| &names.name)),
        now_ms.saturating_sub(client.since_ms) / 1000,
        now_ms.saturating_sub(client.active_ms) / 1000,
        flags,
        client.db,
        listens(Topic::Channel),
        listens(Topic::Pattern),
        listens(Topic::Shard),
        queued,
        multi.map_or(0, |multi| multi.watched.len()),
        input,
        multi.map_or(0, |multi| multi.queued_bytes),
        output,
        output,
        memory,
        if client.sending_bytes.is_some() {
            "rw"
        } else {
            "r"
        },
        client.last.map_or("NULL", |row| row.spec.name),
        String::from_utf8_lossy(&client.user.name),
        redirect,
        if client.resp == protocol::Resp::V3 {
            3
        } else {
            2
        },
        text(names.map(|names| &names.lib_name)),
        text(names.map(|names| &names.lib_ver)),
    );
    out.extend_from_slice(line.as_bytes());
}
