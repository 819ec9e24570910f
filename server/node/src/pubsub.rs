//! Publish and subscribe, over all cores.
//!
//! ```text
//! SUBSCRIBE ─> home core: its own table ── Subscribed ──> every core: how many subscribers each core has
//! PUBLISH ─> the core of the channel's slot: counts them (the reply), and passes the message on
//!                 └── Message ──> each core that has subscribers ──> its connections
//! ```
//! One core puts the messages of a channel in order, so all subscribers see the same order. Every core knows the numbers of
//! all: a reply needs no further message, also inside EXEC. What a subscriber has sent is in the mailboxes before its own
//! confirmation leaves the core, so that a message published after the confirmation reaches it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use commands::Refused;
use commands::key::glob;
use protocol::{Args, Reply, Resp};
use runtime::{ConnId, CoreId};
use storage::{Event, KeyHasher, Slot};

use crate::config::KeyspaceEvents;
use crate::connection::Connection;
use crate::core::Core;
use crate::mail::Mail;
use crate::memory::name_bytes;
use crate::service::NodeService;

/// What is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// A channel (SUBSCRIBE).
    Channel,
    /// Channels by a pattern (PSUBSCRIBE).
    Pattern,
    /// A shard channel (SSUBSCRIBE).
    Shard,
}

impl Topic {
    const COUNT: usize = 3;
}

/// A message on its way.
pub struct Message {
    channel: Box<[u8]>,
    payload: Box<[u8]>,
    topic: Topic,
}

impl Message {
    /// The slot whose core puts this channel's messages in order.
    pub fn slot(&self) -> Slot {
        Slot::of(&self.channel)
    }
}

/// What one connection is subscribed to, by [`Topic`].
#[derive(Default)]
pub struct Subscriptions {
    of: [BTreeSet<Box<[u8]>>; Topic::COUNT],
}

impl Subscriptions {
    /// How many of a kind.
    pub fn len(&self, topic: Topic) -> usize {
        self.of[topic as usize].len()
    }

    /// Whether this name is among them.
    pub fn contains(&self, topic: Topic, name: &[u8]) -> bool {
        self.of[topic as usize].contains(name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = (Topic, &[u8])> {
        let topics = [Topic::Channel, Topic::Pattern, Topic::Shard];
        let of = topics.into_iter().zip(&self.of);
        of.flat_map(|(topic, names)| names.iter().map(move |name| (topic, name.as_ref())))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.of.iter().all(BTreeSet::is_empty)
    }
}

/// Subscribers of each core, of one name.
type Counts = Vec<(CoreId, u32)>;

/// Connections of one core, by name.
type Here = HashMap<Box<[u8]>, BTreeSet<u64>, BuildHasherDefault<KeyHasher>>;

/// Bytes of a core in [`Counts`], and of a connection in [`Here`]: nodes of its tree are between half full and full.
const COUNT_BYTES: usize = size_of::<(CoreId, u32)>();
const CONN_BYTES: usize = 2 * size_of::<u64>();

/// One core's part.
#[derive(Default)]
pub struct PubSub {
    /// Connections of this core, by topic and name.
    here: [Here; Topic::COUNT],
    /// How many subscribers each core has. Sorted, as PUBSUB CHANNELS pages through it.
    all: [BTreeMap<Box<[u8]>, Counts>; Topic::COUNT],
    /// Messages for connections of this core, to be delivered after the request that runs.
    messages: Vec<Arc<Message>>,
    /// Bytes of the tables.
    pub(crate) bytes: usize,
}

impl PubSub {
    /// Whether messages are to be delivered.
    #[inline(always)]
    pub fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// How many messages are to be delivered, and back to so many: what has been undone was never said.
    pub(crate) fn messages_mark(&self) -> usize {
        self.messages.len()
    }

    /// See [`PubSub::messages_mark`].
    pub(crate) fn rewind_messages(&mut self, mark: usize) {
        self.messages.truncate(mark);
    }

    /// What a script beside the cores is to know: how many subscribers there are, of which none is there.
    pub(crate) fn without_connections(&self) -> PubSub {
        PubSub {
            all: self.all.clone(),
            ..PubSub::default()
        }
    }

    /// Takes the messages that are to be delivered.
    pub(crate) fn take_messages(&mut self) -> Vec<Arc<Message>> {
        core::mem::take(&mut self.messages)
    }

    /// Names with subscribers anywhere.
    pub fn names(&self, topic: Topic) -> impl Iterator<Item = &[u8]> {
        self.all[topic as usize].keys().map(AsRef::as_ref)
    }

    /// How many names have subscribers anywhere.
    pub fn len(&self, topic: Topic) -> usize {
        self.all[topic as usize].len()
    }

    /// Subscribers of a name, on all cores.
    pub fn count(&self, topic: Topic, name: &[u8]) -> usize {
        let counts = self.all[topic as usize].get(name).into_iter().flatten();
        counts.map(|(_, count)| *count as usize).sum()
    }

    /// A core has one subscriber more, or fewer.
    pub fn change(&mut self, core: CoreId, topic: Topic, name: &[u8], joins: bool) {
        let all = &mut self.all[topic as usize];
        if joins {
            let counts = match all.get_mut(name) {
                Some(counts) => counts,
                None => {
                    self.bytes += name_bytes(name);
                    all.entry(name.into()).or_default()
                }
            };
            match counts.iter_mut().find(|(other, _)| *other == core) {
                Some((_, count)) => *count += 1,
                None => {
                    self.bytes += COUNT_BYTES;
                    counts.push((core, 1));
                }
            }
            return;
        }
        let Some(counts) = all.get_mut(name) else {
            return;
        };
        if let Some(at) = counts.iter().position(|(other, _)| *other == core) {
            counts[at].1 -= 1;
            if counts[at].1 == 0 {
                counts.swap_remove(at);
                self.bytes -= COUNT_BYTES;
            }
        }
        if counts.is_empty() {
            all.remove(name);
            self.bytes -= name_bytes(name);
        }
    }

    /// Everybody's counts that a message meets: its channel's, and those of the patterns that match it.
    fn met(&self, message: &Message) -> impl Iterator<Item = &(CoreId, u32)> {
        let of = |topic: Topic| &self.all[topic as usize];
        let direct = of(message.topic).get(&message.channel);
        let patterns = (message.topic == Topic::Channel).then(|| of(Topic::Pattern).iter());
        let patterns = patterns.into_iter().flatten();
        let matched = patterns.filter(|(pattern, _)| glob::matches(pattern, &message.channel));
        direct
            .into_iter()
            .chain(matched.map(|(_, counts)| counts))
            .flatten()
    }
}

impl Core {
    /// Subscribes a connection.
    pub fn subscribe(&mut self, conn: &mut Connection, topic: Topic, name: &[u8]) {
        if conn.subscriptions.is_none() {
            self.node.listening.fetch_add(1, Relaxed);
        }
        let subscriptions = conn.subscriptions.get_or_insert_default();
        if subscriptions.of[topic as usize].insert(name.into()) {
            let here = self.pubsub.here[topic as usize].entry(name.into());
            let conns = here.or_default();
            if conns.is_empty() {
                self.pubsub.bytes += name_bytes(name);
            }
            conns.insert(conn.conn.to_u64());
            self.pubsub.bytes += CONN_BYTES;
            self.tell_subscription(topic, name, true);
        }
    }

    /// Takes a subscription away, if it is there.
    pub fn unsubscribe(&mut self, conn: &mut Connection, topic: Topic, name: &[u8]) {
        let Some(subscriptions) = &mut conn.subscriptions else {
            return;
        };
        if !subscriptions.of[topic as usize].remove(name) {
            return;
        }
        if subscriptions.is_empty() {
            conn.subscriptions = None;
            self.node.listening.fetch_sub(1, Relaxed);
        }
        let here = &mut self.pubsub.here[topic as usize];
        if let Some(conns) = here.get_mut(name) {
            conns.remove(&conn.conn.to_u64());
            self.pubsub.bytes -= CONN_BYTES;
            if conns.is_empty() {
                here.remove(name);
                self.pubsub.bytes -= name_bytes(name);
            }
        }
        self.tell_subscription(topic, name, false);
    }

    /// Names that a connection is subscribed to.
    pub fn subscribed(conn: &Connection, topic: Topic) -> Vec<Box<[u8]>> {
        let subscriptions = conn.subscriptions.as_ref();
        subscriptions.map_or_else(Vec::new, |subscriptions| {
            subscriptions.of[topic as usize].iter().cloned().collect()
        })
    }

    /// A connection ends, or is reset.
    pub fn unsubscribe_all(&mut self, conn: &mut Connection) {
        for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
            for name in Core::subscribed(conn, topic) {
                self.unsubscribe(conn, topic, &name);
            }
        }
    }

    fn tell_subscription(&mut self, topic: Topic, name: &[u8], joins: bool) {
        self.pubsub.change(self.id, topic, name, joins);
        for core in (0..self.node.cores() as u16).map(CoreId) {
            if core != self.id {
                let mail = Mail::Subscribed(self.id, topic, name.into(), joins);
                self.posts.push((core, mail));
            }
        }
    }

    /// Runs PUBLISH or SPUBLISH.
    pub fn run_publish(
        &mut self,
        mut args: Args<'_>,
        topic: Topic,
        resp: Resp,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let (channel, payload) = (args.bytes()?, args.bytes()?);
        let count = self.publish_message(channel, payload, topic);
        Reply::new(out, resp).int(count as i64);
        Ok(())
    }

    /// Publishes a message; how many receive it.
    pub fn publish_message(&mut self, channel: &[u8], payload: &[u8], topic: Topic) -> usize {
        let message = Message {
            channel: channel.into(),
            payload: payload.into(),
            topic,
        };
        let count = self
            .pubsub
            .met(&message)
            .map(|(_, count)| *count as usize)
            .sum();
        if count > 0 {
            let message = Arc::new(message);
            let owner = self.owner(message.slot());
            if owner == self.id {
                self.pass_on(&message);
            } else {
                self.posts.push((owner, Mail::Publish(message)));
            }
        }
        count
    }

    /// The message's place among those of its channel is settled: every core that has subscribers gets it.
    pub fn pass_on(&mut self, message: &Arc<Message>) {
        let mut cores: Vec<CoreId> = self.pubsub.met(message).map(|(core, _)| *core).collect();
        cores.sort_unstable();
        cores.dedup();
        for core in cores {
            if core == self.id {
                self.pubsub.messages.push(Arc::clone(message));
            } else {
                self.posts.push((core, Mail::Message(Arc::clone(message))));
            }
        }
    }

    /// A message for connections of this core.
    pub fn receive(&mut self, message: Arc<Message>) {
        self.pubsub.messages.push(message);
    }

    /// Publishes one event, from this core to those of its subscribers: by way of its channels' cores the two messages of an
    /// event could overtake one another.
    fn publish_event(&mut self, channel: &[u8], payload: &[u8]) {
        let message = Message {
            channel: channel.into(),
            payload: payload.into(),
            topic: Topic::Channel,
        };
        if self.pubsub.met(&message).next().is_some() {
            self.pass_on(&Arc::new(message));
        }
    }

    /// Publishes what happened to keys, on the channels of `notify-keyspace-events`.
    pub fn publish_events(&mut self, events: Vec<Event>) {
        let wanted = self.config.notify_keyspace_events;
        for Event { db, name, key } in events {
            if wanted.contains(KeyspaceEvents::KEYSPACE) {
                let channel = [format!("__keyspace@{db}__:").as_bytes(), &key].concat();
                self.publish_event(&channel, name.as_bytes());
            }
            if wanted.contains(KeyspaceEvents::KEYEVENT) {
                let channel = format!("__keyevent@{db}__:{name}");
                self.publish_event(channel.as_bytes(), &key);
            }
        }
    }
}

/// The bytes of one message in both protocols, made when first needed.
struct Frames<'m> {
    message: &'m Message,
    pattern: Option<&'m [u8]>,
    encoded: [Option<Vec<u8>>; 2],
}

impl<'m> Frames<'m> {
    fn new(message: &'m Message, pattern: Option<&'m [u8]>) -> Frames<'m> {
        Frames {
            message,
            pattern,
            encoded: [None, None],
        }
    }

    fn of(&mut self, resp: Resp) -> &[u8] {
        let Frames {
            message, pattern, ..
        } = self;
        self.encoded[usize::from(resp == Resp::V3)].get_or_insert_with(|| {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, resp);
            reply.push(if pattern.is_some() { 4 } else { 3 });
            reply.bulk(match (message.topic, *pattern) {
                (Topic::Shard, _) => b"smessage".as_slice(),
                (_, Some(_)) => b"pmessage",
                (_, None) => b"message",
            });
            if let Some(pattern) = pattern {
                reply.bulk(pattern);
            }
            reply.bulk(&message.channel);
            reply.bulk(&message.payload);
            out
        })
    }
}

impl NodeService {
    /// Messages reach the connections of this core, after the reply of the request that published them.
    pub(crate) fn deliver_messages(&mut self) {
        for message in core::mem::take(&mut self.core.pubsub.messages) {
            let mut sent: Vec<(u64, Vec<u8>)> = Vec::new();
            let pubsub = &self.core.pubsub;
            let direct = pubsub.here[message.topic as usize].get(&message.channel);
            let clients = &mut self.clients;
            let mut push = |conns: &BTreeSet<u64>, frames: &mut Frames<'_>| {
                for conn in conns {
                    if let Some(client) = clients.get_mut(ConnId::from_u64(*conn)) {
                        sent.push((*conn, frames.of(client.resp).to_vec()));
                    }
                }
            };
            if let Some(conns) = direct {
                push(conns, &mut Frames::new(&message, None));
            }
            if message.topic == Topic::Channel {
                for (pattern, conns) in &pubsub.here[Topic::Pattern as usize] {
                    if glob::matches(pattern, &message.channel) {
                        push(conns, &mut Frames::new(&message, Some(pattern)));
                    }
                }
            }
            if message.topic == Topic::Shard && self.core.slot_counts.is_on() {
                let bytes = sent.iter().map(|(_, frame)| frame.len()).sum();
                self.core.count_slot_message(message.slot(), bytes);
            }
            for (conn, frame) in sent {
                self.push_out(ConnId::from_u64(conn), &frame);
            }
        }
    }

    /// Output of a connection that is no reply.
    pub(crate) fn push_out(&mut self, conn: ConnId, frame: &[u8]) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.closing {
            return;
        }
        if client.outbound.out.capacity() == 0 {
            client.outbound.out = self.core.buffer();
        }
        client.outbound.out.extend_from_slice(frame);
        self.mark_dirty(conn);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Client};

    /// For nodes of one to three cores: listeners on every core, and one that publishes.
    fn everywhere(test: impl Fn(&mut Bench, &[Client], Client)) {
        for cores in 1..=3 {
            let mut bench = Bench::new(cores);
            let listeners: Vec<Client> = (0..4).map(|n| bench.connect(n % cores)).collect();
            let actor = bench.connect(cores - 1);
            test(&mut bench, &listeners, actor);
        }
    }

    fn text(bench: &mut Bench, client: Client) -> String {
        String::from_utf8_lossy(&bench.received(client)).replace("\r\n", " ")
    }

    fn call(bench: &mut Bench, client: Client, request: &str) -> String {
        bench.call(client, request).replace("\r\n", " ")
    }

    #[test]
    fn messages_reach_channels_and_patterns() {
        everywhere(|bench, listeners, actor| {
            assert_eq!(
                call(bench, listeners[0], "SUBSCRIBE a b"),
                "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2 "
            );
            assert_eq!(
                call(bench, listeners[1], "PSUBSCRIBE a* [ab]"),
                "*3 $10 psubscribe $2 a* :1 *3 $10 psubscribe $4 [ab] :2 "
            );
            call(bench, listeners[2], "HELLO 3");
            assert_eq!(
                call(bench, listeners[2], "SUBSCRIBE a"),
                ">3 $9 subscribe $1 a :1 "
            );
            assert_eq!(call(bench, actor, "PUBLISH a hi"), ":4 ");
            assert_eq!(text(bench, listeners[0]), "*3 $7 message $1 a $2 hi ");
            let both = text(bench, listeners[1]);
            for pattern in ["$2 a*", "$4 [ab]"] {
                let frame = format!("*4 $8 pmessage {pattern} $1 a $2 hi ");
                assert!(both.contains(&frame), "{both}");
            }
            assert_eq!(text(bench, listeners[2]), ">3 $7 message $1 a $2 hi ");
            assert_eq!(call(bench, actor, "PUBLISH c hi"), ":0 ");
            // The empty channel matches no pattern, not even one of stars.
            call(bench, listeners[1], "PSUBSCRIBE *");
            bench.send(actor, b"*3\r\n$7\r\nPUBLISH\r\n$0\r\n\r\n$1\r\nx\r\n");
            assert_eq!(text(bench, actor), ":0 ");
            call(bench, listeners[1], "PUNSUBSCRIBE *");
            assert_eq!(call(bench, actor, "PUBSUB CHANNELS"), "*2 $1 a $1 b ");
            assert_eq!(call(bench, actor, "PUBSUB CHANNELS [b]"), "*1 $1 b ");
            assert_eq!(
                call(bench, actor, "PUBSUB NUMSUB a b c"),
                "*6 $1 a :2 $1 b :1 $1 c :0 "
            );
            assert_eq!(call(bench, actor, "PUBSUB NUMPAT"), ":2 ");
            assert_eq!(
                call(bench, listeners[0], "UNSUBSCRIBE"),
                "*3 $11 unsubscribe $1 a :1 *3 $11 unsubscribe $1 b :0 "
            );
            assert_eq!(
                call(bench, listeners[0], "UNSUBSCRIBE"),
                "*3 $11 unsubscribe $-1 :0 "
            );
            bench.close(listeners[1]);
            assert_eq!(call(bench, listeners[2], "RESET"), "+RESET ");
            assert_eq!(call(bench, actor, "PUBLISH a hi"), ":0 ");
            assert_eq!(call(bench, actor, "PUBSUB CHANNELS"), "*0 ");
            assert_eq!(call(bench, actor, "PUBSUB NUMPAT"), ":0 ");
        });
    }

    #[test]
    fn shard_channels_are_their_own() {
        everywhere(|bench, listeners, actor| {
            assert_eq!(
                call(bench, listeners[0], "SSUBSCRIBE a"),
                "*3 $10 ssubscribe $1 a :1 "
            );
            call(bench, listeners[1], "PSUBSCRIBE *");
            assert_eq!(call(bench, actor, "SPUBLISH a x"), ":1 ");
            assert_eq!(text(bench, listeners[0]), "*3 $8 smessage $1 a $1 x ");
            assert_eq!(text(bench, listeners[1]), "");
            assert_eq!(call(bench, actor, "PUBSUB SHARDCHANNELS"), "*1 $1 a ");
            assert_eq!(call(bench, actor, "PUBSUB SHARDNUMSUB a"), "*2 $1 a :1 ");
            assert_eq!(call(bench, actor, "PUBLISH a x"), ":1 ");
            assert_eq!(
                call(bench, listeners[0], "SUNSUBSCRIBE"),
                "*3 $12 sunsubscribe $1 a :0 "
            );
            assert_eq!(call(bench, actor, "SPUBLISH a x"), ":0 ");
        });
    }

    #[test]
    fn a_listener_of_version_2_says_little_else() {
        everywhere(|bench, listeners, _| {
            let client = listeners[0];
            call(bench, client, "SUBSCRIBE a");
            assert_eq!(
                call(bench, client, "GET a"),
                "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
                 are allowed in this context "
            );
            let refused = call(bench, client, "PUBSUB NUMPAT");
            assert!(refused.starts_with("-ERR Can't execute 'pubsub|numpat': only"));
            let refused = call(bench, client, "EXEC");
            let begin = "-EXECABORT Transaction discarded because of: Can't execute 'exec': only";
            assert!(refused.starts_with(begin), "{refused}");
            assert_eq!(call(bench, client, "PING"), "*2 $4 pong $0  ");
            assert_eq!(call(bench, client, "PING x"), "*2 $4 pong $1 x ");
            call(bench, client, "UNSUBSCRIBE a");
            assert_eq!(call(bench, client, "GET a"), "$-1 ");
            call(bench, listeners[1], "HELLO 3");
            call(bench, listeners[1], "SUBSCRIBE a");
            assert_eq!(call(bench, listeners[1], "GET a"), "_ ");
            assert_eq!(
                call(bench, listeners[1], "PUBLISH a x"),
                ":1 >3 $7 message $1 a $1 x "
            );
        });
    }

    #[test]
    fn who_may_hear_a_channel_no_more_is_disconnected() {
        everywhere(|bench, listeners, actor| {
            call(bench, actor, "ACL SETUSER u on nopass +@all &a &b*");
            for (listener, request) in listeners.iter().zip(["SUBSCRIBE a", "PSUBSCRIBE b*"]) {
                assert_eq!(call(bench, *listener, "AUTH u x"), "+OK ");
                assert!(call(bench, *listener, request).starts_with("*3 "));
            }
            assert_eq!(call(bench, listeners[2], "AUTH u x"), "+OK ");
            assert_eq!(
                call(bench, listeners[2], "SUBSCRIBE c"),
                "-NOPERM No permissions to access a channel "
            );
            call(bench, actor, "ACL SETUSER u resetchannels &b*");
            assert!(bench.is_closed(listeners[0]));
            assert!(!bench.is_closed(listeners[1]));
            assert_eq!(call(bench, actor, "PUBLISH a x"), ":0 ");
        });
    }

    #[test]
    fn messages_of_transactions() {
        everywhere(|bench, listeners, actor| {
            call(bench, listeners[0], "SUBSCRIBE a");
            call(bench, actor, "MULTI");
            call(bench, actor, "PUBLISH a 1");
            call(bench, actor, "SET k v");
            call(bench, actor, "PUBLISH a 2");
            assert_eq!(call(bench, actor, "EXEC"), "*3 :1 +OK :1 ");
            assert_eq!(
                text(bench, listeners[0]),
                "*3 $7 message $1 a $1 1 *3 $7 message $1 a $1 2 "
            );
        });
    }

    #[test]
    fn what_happens_to_keys_is_published() {
        everywhere(|bench, listeners, actor| {
            call(bench, listeners[0], "PSUBSCRIBE __key*__:*");
            assert_eq!(call(bench, actor, "SET k v PX 10"), "+OK ");
            assert_eq!(text(bench, listeners[0]), "", "nothing is wanted");
            assert_eq!(
                call(bench, actor, "CONFIG SET notify-keyspace-events KEx"),
                "+OK "
            );
            bench.advance(30);
            assert_eq!(
                text(bench, listeners[0]),
                "*4 $8 pmessage $10 __key*__:* $16 __keyspace@0__:k $7 expired \
                 *4 $8 pmessage $10 __key*__:* $22 __keyevent@0__:expired $1 k "
            );
            // Of each change the key's channel hears first, wherever the cores of the two channels are.
            call(bench, actor, "CONFIG SET notify-keyspace-events KE$");
            for n in 0..20 {
                call(bench, actor, &format!("SET key:{n} v"));
                let told = text(bench, listeners[0]);
                let by_key = told.find(&format!("__keyspace@0__:key:{n} $3 set"));
                assert!(
                    by_key.is_some() && by_key < told.find("__keyevent@0__:set"),
                    "{told}"
                );
            }
            call(bench, actor, "CONFIG SET notify-keyspace-events Em");
            call(bench, actor, "GET none");
            assert_eq!(
                text(bench, listeners[0]),
                "*4 $8 pmessage $10 __key*__:* $22 __keyevent@0__:keymiss $4 none "
            );
        });
    }
}
