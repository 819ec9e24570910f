//! Hot path. A connection: what a client has said of itself, and its replies in order.
//!
//! An idle connection owns no buffer: partial input and output exist only while bytes are under way.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::{Args, Parser, Resp, Word};
use runtime::{ConnId, CoreId, Peer};

use crate::acl::User;
use crate::blocking::Waiter;
use crate::front::{Elsewhere, Fronted};
use crate::gated::Gated;
use crate::pubsub::Subscriptions;
use crate::replicas;
use crate::stats::Call;
use crate::table::Row;
use crate::tls::Session;
use crate::tracking::Tracking;

/// Output is held back for replies that follow for at most so long...
const HELD_US_MAX: u32 = 500;
/// ...and while it is no more than this, bytes.
const HELD_BYTES_MAX: usize = 16 << 10;
/// A reply slot that waits.
const WAITING: usize = usize::MAX;
/// A reply slot that lies in pieces: its length is their place in `large`.
const LARGE: usize = usize::MAX - 1;
/// Length of a waiting slot whose reply is not wanted.
const MUTED: usize = 1;

/// Replies of one connection, in the order of its requests.
///
/// While nothing is outstanding replies go straight to `out`. From the first request that is answered
/// elsewhere on, every reply gets a slot: its bytes go to `stage`, and slots leave from the front.
#[derive(Default)]
pub struct Outbound {
    /// Ready to be sent, after `backlog`.
    pub out: Vec<u8>,
    /// What the client has not read, while it is much.
    backlog: Option<Box<Backlog>>,
    /// What waits for the log, or did, and has not been sent: before everything else.
    pub(crate) gated: Option<Box<Gated>>,
    /// There while something is outstanding, and until [`Outbound::relax`].
    queue: Option<Box<Queue>>,
    first_seq: u64,
}

/// Pieces of at least [`PIECE_BYTES_MIN`]: one buffer for all would be copied, hundreds of megabytes at once, as it grows.
#[derive(Default)]
struct Backlog {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that have been taken, by [`Outbound::next_part`].
    taken: usize,
    bytes: usize,
}

/// A reply slot: where in `stage` the reply is, and how long; and whose it is.
#[derive(Clone, Copy)]
struct Slot {
    start: usize,
    len: usize,
    call: Call,
}

/// Reply slots, in the order of the requests.
#[derive(Default)]
pub struct Queue {
    slots: VecDeque<Slot>,
    stage: Vec<u8>,
    large: Vec<Pieces>,
}

/// A large reply, as it was written: it is not copied on its way.
#[derive(Default)]
pub struct Pieces(pub Vec<Vec<u8>>);

impl Pieces {
    /// One piece.
    pub fn of(bytes: Vec<u8>) -> Pieces {
        Pieces(vec![bytes])
    }

    /// The bytes of a reply that may as well be copied.
    pub fn small(&self) -> Option<&[u8]> {
        match &self.0[..] {
            [] => Some(&[]),
            [one] if one.len() < COPIED_BYTES_MAX => Some(one),
            _ => None,
        }
    }
}

/// A larger reply is not copied, bytes.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// Empty queues, whose memory is used again.
#[derive(Default)]
pub struct Queues {
    #[allow(clippy::vec_box, reason = "connections hold queues as boxes")]
    spare: Vec<Box<Queue>>,
}

impl Outbound {
    /// Replies that are not there yet, or wait behind one.
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.slots.len())
    }

    /// The queue, unless nothing is outstanding.
    #[inline]
    fn waiting(&mut self) -> Option<&mut Queue> {
        let queue = self.queue.as_deref_mut()?;
        (!queue.slots.is_empty()).then_some(queue)
    }

    /// Where a reply that is there now is to be written.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.queue {
            Some(queue) if !queue.slots.is_empty() => &mut queue.stage,
            _ => &mut self.out,
        }
    }

    /// Ends a reply that began at `start` of [`Outbound::buffer`]; false if it has to wait for others before it.
    #[inline]
    pub fn end(&mut self, start: usize, call: Call) -> bool {
        let Some(queue) = self.waiting() else {
            return true;
        };
        let len = queue.stage.len() - start;
        queue.slots.push_back(Slot { start, len, call });
        false
    }

    /// A slot for a reply that comes later; a muted one is dropped when it comes.
    #[inline]
    pub fn later(&mut self, muted: bool, call: Call, queues: &mut Queues) -> u64 {
        let queue = self
            .queue
            .get_or_insert_with(|| queues.spare.pop().unwrap_or_default());
        queue.slots.push_back(Slot {
            start: WAITING,
            len: usize::from(muted),
            call,
        });
        self.first_seq + queue.slots.len() as u64 - 1
    }

    /// The reply of a slot has come; nothing for a slot that is gone. Tells which calls may leave now.
    pub fn complete(&mut self, seq: u64, reply: &[u8], mut leaves: impl FnMut(Call)) {
        let Some(index) = seq.checked_sub(self.first_seq) else {
            return;
        };
        let Some(queue) = &mut self.queue else { return };
        let Some(slot) = queue.slots.get_mut(index as usize) else {
            return;
        };
        if slot.start != WAITING {
            return;
        }
        let reply = if slot.len == MUTED { b"" } else { reply };
        if index > 0 {
            slot.start = queue.stage.len();
            slot.len = reply.len();
            queue.stage.extend_from_slice(reply);
            return;
        }
        self.out.extend_from_slice(reply);
        leaves(slot.call);
        queue.slots.pop_front();
        self.first_seq += 1;
        while let Some(&Slot { start, len, call }) = queue.slots.front() {
            if start == WAITING {
                return;
            }
            leaves(call);
            if start == LARGE {
                let pieces = core::mem::take(&mut queue.large[len]);
                pile(&mut self.backlog, &mut self.out, pieces);
            } else {
                self.out.extend_from_slice(&queue.stage[start..start + len]);
            }
            queue.slots.pop_front();
            self.first_seq += 1;
        }
        queue.stage.clear();
        queue.large.clear();
    }

    /// As `complete`, of bytes that are not copied.
    #[cold]
    pub fn complete_pieces(&mut self, seq: u64, reply: Pieces, leaves: impl FnMut(Call)) {
        if !self.awaits(seq) {
            return;
        }
        let Some(queue) = &mut self.queue else { return };
        let index = (seq - self.first_seq) as usize;
        let is_muted = queue.slots[index].len == MUTED;
        if index == 0 && !is_muted {
            pile(&mut self.backlog, &mut self.out, reply);
        } else if !is_muted {
            queue.slots[index].start = LARGE;
            queue.slots[index].len = queue.large.len();
            queue.large.push(reply);
            return;
        }
        self.complete(seq, &[], leaves);
    }

    /// Puts bytes that are no reply behind everything that is here.
    pub fn push(&mut self, bytes: Vec<u8>) {
        let is_copied = bytes.len() < COPIED_BYTES_MAX && self.backlog.is_none();
        if !is_copied && self.outstanding() == 0 {
            return pile(&mut self.backlog, &mut self.out, Pieces::of(bytes));
        }
        let start = self.buffer().len();
        self.buffer().extend_from_slice(&bytes);
        self.end(start, Call::NONE);
    }

    /// Whether the reply of a slot has yet to come.
    pub fn awaits(&self, seq: u64) -> bool {
        let index = seq.checked_sub(self.first_seq);
        let slots = self.queue.as_ref().map(|queue| &queue.slots);
        let slot = slots.and_then(|slots| slots.get(index? as usize));
        slot.is_some_and(|slot| slot.start == WAITING)
    }

    /// Whether a reply is there that waits for one before it.
    pub fn has_answered(&self) -> bool {
        let slots = self.queue.as_ref().map(|queue| &queue.slots);
        slots.is_some_and(|slots| slots.iter().any(|slot| slot.start != WAITING))
    }

    /// Bytes held for the client.
    pub fn bytes(&self) -> usize {
        let gated = self.gated.as_ref().map_or(0, |gated| gated.bytes());
        gated + self.fresh_bytes() + self.backlog.as_ref().map_or(0, |backlog| backlog.bytes)
    }

    /// Whether something could be sent now.
    #[inline]
    pub fn is_ready(&self) -> bool {
        !self.out.is_empty() || self.backlog.is_some()
    }

    /// Of these, what is not in the backlog.
    #[inline]
    pub fn fresh_bytes(&self) -> usize {
        self.out.len() + self.queue.as_ref().map_or(0, |queue| queue.stage.len())
    }

    /// A send is under way: what waits for its end goes to the backlog once it is much.
    pub fn pile_up(&mut self) {
        if self.out.len() >= PIECE_BYTES_MIN {
            let backlog = self.backlog.get_or_insert_default();
            backlog.bytes += self.out.len();
            backlog.pieces.push_back(core::mem::take(&mut self.out));
        }
    }

    /// What is to be sent next; nothing when all has been.
    pub fn next_piece(&mut self) -> Vec<u8> {
        let Some(backlog) = &mut self.backlog else {
            return core::mem::take(&mut self.out);
        };
        let piece = backlog.pieces.pop_front().unwrap_or_default();
        backlog.bytes -= piece.len();
        if backlog.pieces.is_empty() {
            self.backlog = None;
        }
        piece
    }

    /// As `next_piece`, at most so many bytes: what is to be worked on before it is sent. A connection always asks for the one or
    /// for the other.
    pub fn next_part(&mut self, bytes_max: usize) -> Vec<u8> {
        let Some(backlog) = &mut self.backlog else {
            return core::mem::take(&mut self.out);
        };
        let Some(piece) = backlog.pieces.front() else {
            return self.next_piece();
        };
        let rest = &piece[backlog.taken..];
        if rest.len() <= bytes_max && backlog.taken == 0 {
            return self.next_piece();
        }
        let part = rest[..rest.len().min(bytes_max)].to_vec();
        backlog.taken += part.len();
        backlog.bytes -= part.len();
        if backlog.taken == piece.len() {
            backlog.taken = 0;
            backlog.pieces.pop_front();
            if backlog.pieces.is_empty() {
                self.backlog = None;
            }
        }
        part
    }

    /// Gives memory back once nothing is under way.
    pub fn relax(&mut self, queues: &mut Queues) {
        if self.outstanding() > 0 {
            return;
        }
        if let Some(queue) = self.queue.take()
            && queues.spare.len() < QUEUES_SPARE_MAX
            && queue.stage.capacity() <= STAGE_KEPT_BYTES_MAX
            && queue.slots.capacity() <= SLOTS_KEPT_MAX
        {
            queues.spare.push(queue);
        }
    }
}

/// Puts a large reply behind what is to be sent.
#[cold]
fn pile(backlog: &mut Option<Box<Backlog>>, out: &mut Vec<u8>, reply: Pieces) {
    let backlog = backlog.get_or_insert_default();
    let before = core::iter::once(core::mem::take(out));
    for piece in before.chain(reply.0).filter(|piece| !piece.is_empty()) {
        backlog.bytes += piece.len();
        backlog.pieces.push_back(piece);
    }
}

/// Bytes of a piece of a backlog.
pub(crate) const PIECE_BYTES_MIN: usize = 1 << 20;
/// A queue with a larger stage is not kept, bytes...
const STAGE_KEPT_BYTES_MAX: usize = 64 << 10;
/// ...nor one with more slots...
const SLOTS_KEPT_MAX: usize = 4096;
/// ...and no more than so many.
const QUEUES_SPARE_MAX: usize = 128;

/// A request kept for later: a command queued by MULTI, or one that waits for slots.
pub struct Request {
    /// The command.
    pub row: &'static Row,
    /// Its words' bytes.
    pub buf: Vec<u8>,
    /// Its words.
    pub words: Vec<Word>,
}

impl Request {
    /// Copies a request's words.
    pub fn new(row: &'static Row, args: &Args<'_>) -> Request {
        let bytes = (0..args.total()).filter_map(|index| args.word(index));
        let mut request = Request {
            row,
            buf: Vec::with_capacity(bytes.map(<[u8]>::len).sum()),
            words: Vec::with_capacity(args.total()),
        };
        args.copy_into(&mut request.buf, &mut request.words);
        request
    }

    /// Its words, the cursor behind its name.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.buf, &self.words).skip(self.row.name_words - 1)
    }

    /// A request of these words.
    pub fn of_words(row: &'static Row, owned: &[Vec<u8>]) -> Request {
        let (mut buf, mut words) = (Vec::new(), Vec::new());
        protocol::args::flatten(owned, &mut buf, &mut words);
        Request { row, buf, words }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.buf.len() + self.words.len() * size_of::<Word>()
    }
}

/// A watched key.
pub struct Watch {
    /// The core that keeps its version.
    pub core: CoreId,
    /// The database.
    pub db: u8,
    /// The key.
    pub key: Box<[u8]>,
    /// Its version when it was watched; None until the core has told.
    pub version: Option<u64>,
}

/// MULTI and WATCH.
#[derive(Default)]
pub struct Multi {
    /// Between MULTI and EXEC.
    pub open: bool,
    /// A command was refused while queueing: EXEC will be too.
    pub refused: bool,
    /// What EXEC runs.
    pub queued: Vec<Request>,
    /// Bytes of it.
    pub queued_bytes: usize,
    /// Keys that must not change before EXEC.
    pub watched: Vec<Watch>,
    /// The same of keys that are watched at the source.
    pub elsewhere: Elsewhere,
    /// EXEC itself while it waits for slots: monitors are shown it behind what it runs.
    pub exec: Option<Request>,
}

/// A request of which only a part has arrived, or which may not begin yet.
#[derive(Default)]
pub struct Partial {
    /// What the parser knows of the first request in `input`.
    pub parser: Parser,
    /// Bytes not yet parsed.
    pub input: Vec<u8>,
    /// When the first of them had been received, ticks.
    pub received: u64,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// No reply is sent.
    Off,
    /// CLIENT REPLY SKIP has just run: neither its own reply nor the next is sent.
    SkipThis,
    /// The next reply is not sent.
    SkipNext,
}

impl ReplyMode {
    /// The mode after a reply that was not sent.
    pub fn next(self) -> ReplyMode {
        match self {
            ReplyMode::Off => ReplyMode::Off,
            ReplyMode::SkipNext | ReplyMode::On => ReplyMode::On,
            ReplyMode::SkipThis => ReplyMode::SkipNext,
        }
    }
}

/// What the client has told of itself.
#[derive(Default)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: Vec<u8>,
}

/// What is gathered from all cores for one reply; see `gather.rs`.
pub use crate::gather::Gather;

/// One client.
pub struct Connection {
    /// Its name in the runtime.
    pub conn: ConnId,
    /// CLIENT ID.
    pub id: u64,
    /// Both ends.
    pub peer: Peer,
    /// Descriptor number, for CLIENT LIST.
    pub fd: i32,
    /// The selected database.
    pub db: u8,
    /// The protocol that HELLO chose.
    pub resp: Resp,
    /// Has logged in, or was let in without.
    pub authenticated: bool,
    /// Whose rights it has, as they were in the snapshot `seen_at`.
    pub user: Arc<User>,
    /// The number of that snapshot; see [`crate::acl`].
    pub seen_at: u32,
    /// The number of the snapshot for which it was found that it may do everything; 0 for none.
    pub free_at: u32,
    /// Came by this core's own port.
    pub own_port: bool,
    /// Nothing more of its input is looked at; closed when its output has gone out.
    pub closing: bool,
    /// `ops.close` has been asked for.
    pub closed: bool,
    /// A send is under way, of so many bytes.
    pub sending_bytes: Option<usize>,
    /// It is on the list of connections with output.
    pub dirty: bool,
    /// It is on the list of those whose output waits for the log.
    pub behind: bool,
    /// It waits until all its replies are there (or a pause is over) before it goes on with `partial`.
    pub stalled: bool,
    /// As `stalled`, while the turn that found it out goes on.
    pub stalled_in_turn: bool,
    /// A request of it runs that suffers nothing beside it: whatever follows waits.
    pub exclusive: bool,
    /// Receiving is paused, because a stalled client sent too much.
    pub paused: bool,
    /// A large request is being received into its own buffer, up to this length.
    pub filling: Option<usize>,
    /// Bytes that its core counts for it: see `client_memory.rs`.
    pub counted_bytes: usize,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT MAINT_NOTIFICATIONS.
    pub maintenance: bool,
    /// MONITOR.
    pub monitor: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// When it connected, unix ms.
    pub since_ms: u64,
    /// When it last sent something, unix ms.
    pub active_ms: u64,
    /// Its last command.
    pub last: Option<&'static Row>,
    /// When the bytes of the requests that it runs had been received, ticks.
    pub received: u64,
    /// How many they are.
    pub running_bytes: usize,
    /// Replies under way.
    pub outbound: Outbound,
    /// TLS, on a connection that speaks it.
    pub tls: Option<Box<Session>>,
    /// Input under way.
    pub partial: Option<Box<Partial>>,
    /// MULTI and WATCH, once used.
    pub multi: Option<Box<Multi>>,
    /// Names, once told.
    pub names: Option<Box<Names>>,
    /// When output began to be held back for the replies that follow it (low bits of monotonic us); 0 for not.
    pub held_since_us: u32,
    /// What it listens to.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// CLIENT TRACKING.
    pub tracking: Option<Box<Tracking>>,
    /// The request that it waits in.
    pub blocked: Option<Arc<Waiter>>,
    /// A reply that is gathered from all cores.
    pub gather: Option<Box<Gather>>,
    /// What it has said of being a replica's.
    pub replica: Option<Box<replicas::Side>>,
    /// What it has at the source whose front this node is, or had.
    pub front: Option<Box<Fronted>>,
    /// When the output began to be above the soft limit, unix ms.
    pub soft_since_ms: u64,
}

impl Connection {
    /// A client that has just connected.
    pub fn new(
        conn: ConnId,
        id: u64,
        (peer, fd): (Peer, i32),
        user: Arc<User>,
        now_ms: u64,
    ) -> Connection {
        Connection {
            conn,
            id,
            peer,
            fd,
            db: 0,
            resp: Resp::V2,
            authenticated: false,
            user,
            seen_at: 0,
            free_at: 0,
            own_port: false,
            closing: false,
            closed: false,
            sending_bytes: None,
            dirty: false,
            behind: false,
            stalled: false,
            stalled_in_turn: false,
            exclusive: false,
            paused: false,
            filling: None,
            counted_bytes: 0,
            no_evict: false,
            no_touch: false,
            maintenance: false,
            monitor: false,
            reply_mode: ReplyMode::On,
            since_ms: now_ms,
            active_ms: now_ms,
            last: None,
            received: 0,
            running_bytes: 0,
            outbound: Outbound::default(),
            tls: None,
            partial: None,
            multi: None,
            names: None,
            held_since_us: 0,
            subscriptions: None,
            tracking: None,
            blocked: None,
            gather: None,
            replica: None,
            front: None,
            soft_since_ms: 0,
        }
    }

    /// One without a socket, for requests of the server's own.
    pub fn inside(user: &Arc<User>) -> Box<Connection> {
        let nobody = ConnId::from_u64(u64::MAX);
        Box::new(Connection::new(
            nobody,
            0,
            (Peer::Unix, -1),
            Arc::clone(user),
            0,
        ))
    }

    /// The request that it runs, as the histograms know it.
    #[inline]
    pub fn call(&self) -> Call {
        self.last
            .map_or(Call::NONE, |row| Call::new(row.index, self.received))
    }

    /// A slot for a reply that comes later, as CLIENT REPLY wants it.
    #[inline]
    pub fn later(&mut self, queues: &mut Queues) -> u64 {
        let muted = self.reply_mode != ReplyMode::On;
        if muted {
            self.reply_mode = self.reply_mode.next();
        }
        self.outbound.later(muted, self.call(), queues)
    }

    /// Whether requests of it are still to be run or answered, or replies to be sent. One that waits for a key is owed nothing.
    pub fn is_owed(&self) -> bool {
        !self.is_blocked() && self.has_work()
    }

    fn has_work(&self) -> bool {
        self.stalled
            || self.outbound.outstanding() > 0
            || self.outbound.bytes() > 0
            || self.sending_bytes.is_some()
    }

    /// Whether its output waits a moment for the replies behind it, which another core is about to give: one send
    /// instead of two.
    #[inline]
    pub fn is_held(&mut self, now_us: u32) -> bool {
        let bytes = self.outbound.bytes();
        if self.outbound.outstanding() == 0 || self.closing || bytes == 0 || bytes > HELD_BYTES_MAX
        {
            return false;
        }
        if self.held_since_us == 0 {
            // Zero means that nothing is held; being off by one does not matter.
            self.held_since_us = now_us.max(1);
        }
        now_us.wrapping_sub(self.held_since_us) < HELD_US_MAX
    }

    /// In version 2 a connection that listens says little else: a reply would look like a message.
    pub fn only_listens(&self) -> bool {
        self.resp == Resp::V2 && self.subscriptions.is_some()
    }

    /// Whether there is something to be sent.
    #[inline]
    pub fn has_output(&self) -> bool {
        self.outbound.bytes() > 0 || self.tls.as_ref().is_some_and(|tls| tls.has_output())
    }

    /// Between MULTI and EXEC.
    #[inline]
    pub fn in_multi(&self) -> bool {
        self.multi.as_ref().is_some_and(|multi| multi.open)
    }

    /// May run every command, one after the other as they come, under the users of this number.
    #[inline]
    pub fn is_plain(&self, users_epoch: u32) -> bool {
        self.free_at == users_epoch
            && !self.exclusive
            && !self.no_touch
            && self.multi.is_none()
            && self.subscriptions.is_none()
            && self.tracking.is_none()
    }
}

// Ten thousand idle clients must cost little: the allocator's class of this size each.
const _: () = assert!(size_of::<Connection>() <= 384);

#[cfg(test)]
mod tests {
    use super::*;

    fn say(outbound: &mut Outbound, reply: &[u8]) {
        let start = outbound.buffer().len();
        outbound.buffer().extend_from_slice(reply);
        outbound.end(start, Call::NONE);
    }

    #[test]
    fn much_output_leaves_in_pieces_and_in_order() {
        let mut outbound = Outbound::default();
        for n in 0..5u8 {
            outbound.out.extend_from_slice(&vec![n; 700_000]);
            outbound.pile_up();
        }
        assert_eq!(
            (outbound.bytes(), outbound.fresh_bytes()),
            (3_500_000, 700_000)
        );
        let mut sent = Vec::new();
        loop {
            let piece = outbound.next_piece();
            if piece.is_empty() {
                break;
            }
            assert!(piece.len() < 2 * PIECE_BYTES_MIN);
            sent.extend(piece);
        }
        assert!((0..5).all(|n| {
            sent[n * 700_000..][..700_000]
                .iter()
                .all(|byte| *byte == n as u8)
        }));
        assert_eq!((sent.len(), outbound.bytes()), (3_500_000, 0));
    }

    #[test]
    fn parts_of_large_pieces_are_the_same_bytes() {
        let mut outbound = Outbound::default();
        let seq = outbound.later(false, Call::new(1, 2), &mut Queues::default());
        let mut left = Vec::new();
        say(&mut outbound, b"end");
        let large: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        outbound.out.extend_from_slice(b"begin");
        outbound.complete_pieces(
            seq,
            Pieces(vec![large[..70_000].to_vec(), large[70_000..].to_vec()]),
            |call| left.push(call),
        );
        assert_eq!(left, [Call::new(1, 2), Call::NONE]);
        assert_eq!(outbound.bytes(), 200_008);
        let mut sent = Vec::new();
        while outbound.bytes() > 0 {
            let part = outbound.next_part(30_000);
            assert!(part.len() <= 30_000);
            sent.extend(part);
        }
        assert!(sent == [b"begin", &large[..], b"end"].concat());
    }

    #[test]
    fn replies_leave_in_the_order_of_requests() {
        let mut outbound = Outbound::default();
        let queues = &mut Queues::default();
        say(&mut outbound, b"1");
        let two = outbound.later(false, Call::new(2, 20), queues);
        say(&mut outbound, b"3");
        let four = outbound.later(false, Call::new(4, 40), queues);
        say(&mut outbound, b"5");
        assert_eq!(
            (outbound.out.as_slice(), outbound.outstanding()),
            (&b"1"[..], 4)
        );
        let mut left = Vec::new();
        outbound.complete(four, b"4", |_| unreachable!("two is before it"));
        assert_eq!(outbound.out, b"1");
        outbound.complete(four, b"never twice", |_| unreachable!("it is there"));
        outbound.complete(two, b"2", |call| left.push(call));
        let (two_call, none, four_call) = (Call::new(2, 20), Call::NONE, Call::new(4, 40));
        assert_eq!(left, [two_call, none, four_call, none]);
        assert_eq!(
            (outbound.out.as_slice(), outbound.outstanding()),
            (&b"12345"[..], 0)
        );
        say(&mut outbound, b"6");
        assert_eq!(outbound.out, b"123456");
        outbound.complete(two, b"stale", |_| unreachable!("it has left"));
        assert_eq!(outbound.out, b"123456");
    }
}
