//! Intents: which slots of this core are promised to transactions, and who waits for them.
//!
//! Transactions are numbered in one total order for the node. A slot's queue is in that order, its
//! head holds the slot. One that arrives behind a later number is refused and tries again with a new
//! number: so a transaction waits only for earlier ones, and no cycle of waits can form (wait-die:
//! Rosenkrantz, Stearns, Lewis 1978; the scheme of VLL: Ren, Thomson, Abadi, VLDB 2012).
//!
//! A claim that heads all its queues is granted: from then to its release its slots are *held* (and,
//! for another core, away). Only held slots stop ordinary requests: those are parked, and run when
//! the slot is home again, before the next transaction gets it, so neither kind starves the other.
//!
//! Some transactions need every slot (a snapshot's begin, FLUSHALL, SWAPDB): claim and release cost some nanoseconds a slot, so the heads
//! of all queues lie in one array (128 KiB, made when the first transaction comes) and who holds is a bit. Hashed by slot they cost a
//! core ten milliseconds.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use runtime::{ConnId, CoreId};
use storage::{SLOTS, Slot};

use crate::mail::{Batch, Ticket};

/// Requests parked on one core before more are turned away: clients of this core wait (one request each is still parked), those of
/// others are refused with an error.
pub const PARKED_MAX: usize = 1 << 20;

/// Who waits at, or holds, slots of this core.
pub struct Claim {
    /// Where the transaction runs.
    pub from: CoreId,
    /// The slots it needs here.
    pub slots: Vec<Slot>,
    /// Keys it watches here, with versions.
    pub watched: Vec<(u8, Box<[u8]>, u64)>,
    /// Slots whose queue it does not head yet.
    waiting: usize,
    /// Whether it holds its slots.
    held: bool,
}

impl Claim {
    /// Whether it holds its slots.
    pub fn is_held(&self) -> bool {
        self.held
    }
}

/// No transaction's number.
const NOBODY: u64 = u64::MAX;

/// Slots that are held: a bit each.
#[derive(Default)]
struct Held {
    /// Empty until one is.
    bits: Vec<u64>,
    len: usize,
}

impl Held {
    fn contains(&self, slot: Slot) -> bool {
        let word = self.bits.get(slot.index() / 64);
        word.is_some_and(|word| word >> (slot.index() % 64) & 1 != 0)
    }

    /// Slots are held from now on.
    fn add(&mut self, slots: &[Slot]) {
        self.bits.resize(SLOTS / 64, 0);
        for slot in slots {
            self.bits[slot.index() / 64] |= 1 << (slot.index() % 64);
        }
        self.len += slots.len();
    }

    /// They are no longer: all of them were.
    fn remove(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.bits[slot.index() / 64] &= !(1 << (slot.index() % 64));
        }
        self.len -= slots.len();
    }
}

/// See the module's head.
#[derive(Default)]
pub struct Locks {
    /// By slot: the head of its queue, or [`NOBODY`]; empty until somebody claims.
    heads: Vec<u64>,
    /// Slots that have a head.
    claimed: usize,
    /// Who waits behind the head; no empty queue.
    behind: HashMap<u16, VecDeque<u64>>,
    claims: HashMap<u64, Claim>,
    held: Held,
    #[allow(
        clippy::vec_box,
        reason = "batches travel as boxes: they are not boxed anew"
    )]
    parked: HashMap<u16, Vec<Box<Batch>>>,
    parked_len: usize,
    /// Requests that have been parked so far.
    arrived: u64,
    /// Clients of which requests of several keys are parked: the number of each, and its slot.
    several: HashMap<(CoreId, ConnId), Vec<(u64, Slot)>>,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It heads all its queues: [`Locks::hold`] may be called.
    Ready,
    /// It will be told.
    Waits,
    /// A later transaction was here before.
    TooLate,
}

impl Locks {
    /// Whether no slot is held.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.held.len == 0
    }

    /// Whether a slot is held by a transaction.
    #[inline]
    pub fn is_held(&self, slot: Slot) -> bool {
        self.held.len != 0 && self.held.contains(slot)
    }

    /// Whether nobody holds one of these slots or waits for it.
    pub fn is_unclaimed(&self, slots: &[Slot]) -> bool {
        self.claimed == 0 || slots.iter().all(|slot| self.heads[slot.index()] == NOBODY)
    }

    /// Claims slots for a transaction.
    pub fn claim(
        &mut self,
        tx: u64,
        from: CoreId,
        slots: Vec<Slot>,
        watched: Vec<(u8, Box<[u8]>, u64)>,
    ) -> Verdict {
        self.heads.resize(SLOTS, NOBODY);
        let is_later = |slot: &Slot| match self.heads[slot.index()] {
            NOBODY => false,
            head => {
                let last = self.behind.get(&slot.0).and_then(|queue| queue.back());
                *last.unwrap_or(&head) > tx
            }
        };
        if self.claimed > 0 && slots.iter().any(is_later) {
            return Verdict::TooLate;
        }
        let mut waiting = 0;
        for slot in &slots {
            let head = &mut self.heads[slot.index()];
            if *head == NOBODY {
                *head = tx;
                self.claimed += 1;
            } else {
                waiting += 1;
                self.behind.entry(slot.0).or_default().push_back(tx);
            }
        }
        self.claims.insert(
            tx,
            Claim {
                from,
                slots,
                watched,
                waiting,
                held: false,
            },
        );
        if waiting == 0 {
            Verdict::Ready
        } else {
            Verdict::Waits
        }
    }

    /// The claim, which heads all its queues, holds its slots from now on.
    pub fn hold(&mut self, tx: u64) -> Option<&Claim> {
        let claim = self.claims.get_mut(&tx)?;
        debug_assert_eq!(claim.waiting, 0);
        claim.held = true;
        // (A slot has one holder, and nobody names one twice.)
        self.held.add(&claim.slots);
        Some(claim)
    }

    /// The claim of a transaction.
    pub fn get(&self, tx: u64) -> Option<&Claim> {
        self.claims.get(&tx)
    }

    /// Takes a claim away; returns its slots, and the transactions that head all their queues thereby.
    pub fn release(&mut self, tx: u64) -> (Vec<Slot>, Vec<u64>) {
        let Some(claim) = self.claims.remove(&tx) else {
            return Default::default();
        };
        let mut ready = Vec::new();
        if claim.held {
            self.held.remove(&claim.slots);
        }
        for slot in &claim.slots {
            if self.heads[slot.index()] != tx {
                self.leave_queue(*slot, tx);
                continue;
            }
            let next = self.next_of(*slot);
            self.heads[slot.index()] = next.unwrap_or(NOBODY);
            self.claimed -= usize::from(next.is_none());
            if let Some((next, claim)) =
                next.and_then(|next| Some((next, self.claims.get_mut(&next)?)))
            {
                claim.waiting -= 1;
                if claim.waiting == 0 {
                    ready.push(next);
                }
            }
        }
        (claim.slots, ready)
    }

    /// Who waits behind the head longest: it waits no more.
    fn next_of(&mut self, slot: Slot) -> Option<u64> {
        if self.behind.is_empty() {
            return None;
        }
        let queue = self.behind.get_mut(&slot.0)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.behind.remove(&slot.0);
        }
        next
    }

    /// Somebody who waits behind a head gives up.
    fn leave_queue(&mut self, slot: Slot, tx: u64) {
        if let Some(queue) = self.behind.get_mut(&slot.0) {
            queue.retain(|&other| other != tx);
            if queue.is_empty() {
                self.behind.remove(&slot.0);
            }
        }
    }

    /// Whether no more than one request of each client should be parked.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.parked_len >= PARKED_MAX
    }

    /// Parks a request (a batch of one) at a held slot. Returns its number.
    pub fn park(&mut self, slot: Slot, mut request: Box<Batch>) -> u64 {
        debug_assert!(self.is_held(slot));
        if request.parked == 0 {
            self.arrived += 1;
            request.parked = self.arrived;
        }
        let number = request.parked;
        self.parked_len += 1;
        self.parked.entry(slot.0).or_default().push(request);
        number
    }

    /// As `park`, for a request of several keys, perhaps of another core's client: not all of its slots need be held, and what that client
    /// asks for next may not pass it at another.
    pub fn park_several(&mut self, slot: Slot, request: Box<Batch>, of: Ticket) {
        let number = self.park(slot, request);
        let parked = self.several.entry((of.core, of.conn)).or_default();
        parked.push((number, slot));
    }

    /// A request that was parked is about to run, or to be parked anew.
    pub fn returns(&mut self, of: Ticket, number: u64) {
        if self.several.is_empty() {
            return;
        }
        if let Entry::Occupied(mut entry) = self.several.entry((of.core, of.conn)) {
            entry.get_mut().retain(|(parked, _)| *parked != number);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Where a request of several keys is parked that the same client sent before this one, which has a number if it was parked.
    #[inline]
    pub fn ahead_of(&self, of: Ticket, number: u64) -> Option<Slot> {
        if self.several.is_empty() {
            return None;
        }
        let mut parked = self.several.get(&(of.core, of.conn))?.iter();
        let ahead = parked.find(|(other, _)| number == 0 || *other < number)?;
        Some(ahead.1)
    }

    /// Takes all requests that wait, in the order they came.
    pub fn take_parked(&mut self) -> Vec<Box<Batch>> {
        self.parked_len = 0;
        self.several.clear();
        let parked = self.parked.drain().flat_map(|(_, some)| some);
        let mut parked: Vec<Box<Batch>> = parked.collect();
        parked.sort_unstable_by_key(|request| request.parked);
        parked
    }

    /// Takes the requests that waited for slots which are home now, in the order they came: one of several slots is parked at
    /// the first of them that is held, and must not pass one before it that is parked at another.
    pub fn unpark(&mut self, slots: &[Slot]) -> Vec<Box<Batch>> {
        if self.parked.is_empty() {
            return Vec::new();
        }
        let mut freed: Vec<Box<Batch>> = Vec::new();
        for slot in slots {
            if !self.held.contains(*slot)
                && let Some(requests) = self.parked.remove(&slot.0)
            {
                self.parked_len -= requests.len();
                freed.extend(requests);
            }
        }
        freed.sort_unstable_by_key(|request| request.parked);
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(numbers: &[u16]) -> Vec<Slot> {
        numbers.iter().map(|n| Slot(*n)).collect()
    }

    #[test]
    fn earlier_ones_hold_and_later_ones_wait_in_order() {
        let mut locks = Locks::default();
        let core = CoreId(0);
        assert_eq!(locks.claim(1, core, slots(&[1, 2]), vec![]), Verdict::Ready);
        locks.hold(1);
        assert_eq!(locks.claim(3, core, slots(&[2, 3]), vec![]), Verdict::Waits);
        assert_eq!(locks.claim(4, core, slots(&[3]), vec![]), Verdict::Waits);
        assert_eq!(locks.claim(2, core, slots(&[3]), vec![]), Verdict::TooLate);
        assert_eq!(locks.claim(5, core, slots(&[9]), vec![]), Verdict::Ready);
        assert!(
            locks.is_held(Slot(2)) && !locks.is_held(Slot(3)),
            "waiting holds nothing"
        );
        assert_eq!(locks.release(1).1, [3]);
        assert!(!locks.is_held(Slot(2)));
        locks.hold(3);
        assert_eq!(locks.release(3).1, [4]);
        assert_eq!(locks.release(4).1, [0u64; 0]);
        assert_eq!(locks.release(5).1, [0u64; 0]);
        assert!(locks.is_empty() && locks.claims.is_empty() && locks.behind.is_empty());
        assert!(locks.claimed == 0 && locks.heads.iter().all(|head| *head == NOBODY));
    }

    #[test]
    fn giving_up_a_place_in_the_middle_lets_nobody_jump() {
        let mut locks = Locks::default();
        let core = CoreId(0);
        assert_eq!(locks.claim(1, core, slots(&[1]), vec![]), Verdict::Ready);
        assert_eq!(locks.claim(2, core, slots(&[1, 5]), vec![]), Verdict::Waits);
        assert_eq!(locks.claim(3, core, slots(&[1]), vec![]), Verdict::Waits);
        assert_eq!(locks.release(2).1, [0u64; 0]);
        assert_eq!(locks.release(1).1, [3]);
    }

    #[test]
    fn parked_requests_come_when_their_slot_is_home() {
        let mut locks = Locks::default();
        locks.claim(1, CoreId(0), slots(&[1]), vec![]);
        locks.hold(1);
        locks.park(Slot(1), Box::default());
        assert!(locks.unpark(&slots(&[1])).is_empty());
        let (home, _) = locks.release(1);
        assert_eq!(locks.unpark(&home).len(), 1);
    }

    /// RPUSH waited at its slot and DEL of two keys, sent behind it, at a lower one: DEL ran first, and the element stayed.
    #[test]
    fn requests_parked_at_several_slots_keep_their_order() {
        let mut locks = Locks::default();
        locks.claim(1, CoreId(0), slots(&[1, 2, 3]), vec![]);
        locks.hold(1);
        for (slot, bytes) in [(3, 0), (1, 1), (2, 2), (3, 3)] {
            let mut request = Box::<Batch>::default();
            request.buf = vec![0; bytes];
            locks.park(Slot(slot), request);
        }
        let (home, _) = locks.release(1);
        let freed = locks.unpark(&home);
        let order: Vec<usize> = freed.iter().map(|request| request.buf.len()).collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }
}
