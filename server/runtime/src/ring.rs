#![allow(
    unsafe_code,
    reason = "raw io_uring: mapped rings, kernel-written buffers, and the enter call itself"
)]
//! Hot path. One io_uring with its provided-buffer ring: setup, push, enter, reap. What operations mean is
//! decided in `uring.rs`.
//!
//! One enter per turn submits everything and waits. The ring is made with the best flags the kernel takes:
//! `SINGLE_ISSUER | DEFER_TASKRUN` make completions wait until we ask (without them every packet interrupts the
//! thread, measured 1.4x dearer than epoll), `NO_SQARRAY` and the registered ring descriptor save a little more.
//!
//! The completion queue is [`CQ_ENTRIES`] long, eight times the submission queue. What overflows it the kernel keeps
//! (`FEAT_NODROP`, required) and hands over at a later enter, as every enter asks for events.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use rustix::io_uring as raw;

use crate::buffer::{Region, View};

/// Operations that one enter can submit; more cost one more enter.
pub(crate) const SQ_ENTRIES: u32 = 1024;
/// Completions that fit before the kernel has to keep some aside.
pub(crate) const CQ_ENTRIES: u32 = 8 * SQ_ENTRIES;
/// Largest number of provided buffers the kernel takes.
pub(crate) const BUFFERS_MAX: usize = 1 << 15;
/// The one group of provided buffers.
pub(crate) const GROUP: u16 = 0;
/// Buffers of the region that are never the kernel's: stashed bytes are delivered through them.
pub(crate) const SCRATCH_COUNT: usize = 16;

/// Flags for a ring, from best to plain. Each step gives up what an older kernel may lack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Grade {
    /// 6.6: no submission array.
    Best,
    /// 6.1: deferred task work.
    Deferred,
    /// 5.19: cooperative task work.
    Plain,
}

/// A ring, the buffers it fills, and the submissions that wait for a place.
pub(crate) struct Ring {
    ring: IoUring,
    /// Number under which the ring descriptor is registered for this thread, else the descriptor itself.
    enter_fd: RawFd,
    enter_flags: raw::IoringEnterFlags,
    buffers: Buffers,
    /// Submissions that found the queue full even after an enter, which only a kernel short of memory causes.
    waiting: Vec<squeue::Entry>,
    pub(crate) kernel_entries: u64,
}

/// The provided buffers: a region cut in equal pieces, and the ring by which they are offered.
struct Buffers {
    region: Region,
    /// Entries of 16 bytes: address, length, buffer id; the tail hides in the first one's last two bytes.
    offers: Region,
    buffer_bytes: usize,
    count: usize,
    tail: u16,
}

impl Ring {
    pub(crate) fn new(buffer_bytes: usize, count: usize) -> io::Result<Ring> {
        let count = count.next_power_of_two().min(BUFFERS_MAX);
        let ring = build()?;
        let params = ring.params();
        if !(params.is_feature_nodrop() && params.is_feature_ext_arg()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "io_uring lacks NODROP or EXT_ARG",
            ));
        }
        let out_of_range = || io::Error::new(io::ErrorKind::InvalidInput, "receive pool too large");
        let bytes = buffer_bytes
            .checked_mul(count + SCRATCH_COUNT)
            .ok_or_else(out_of_range)?;
        if u32::try_from(bytes).is_err() {
            return Err(out_of_range());
        }
        let region = Region::new(bytes).ok_or_else(out_of_range)?;
        // The kernel takes the buffers in turn, so that all are in use soon: at the start they are counted, and no receive pays for them.
        region.populate();
        let offers = Region::new(count * size_of::<BufRingEntry>()).ok_or_else(out_of_range)?;
        // INVARIANT: at most BUFFERS_MAX, which fits.
        let entries = count as u16;
        // SAFETY: (1) the address is page-aligned zeroed memory of `count` entries, and lives until the ring is
        // gone: `Uring` drops the ring only when no operation is in flight, else leaks both.
        unsafe {
            let offers_addr = offers.base().as_ptr() as u64;
            ring.submitter()
                .register_buf_ring_with_flags(offers_addr, entries, GROUP, 0)?;
        }
        let enter_fd = ring.as_raw_fd();
        let mut ring = Ring {
            ring,
            enter_fd,
            enter_flags: raw::IoringEnterFlags::GETEVENTS | raw::IoringEnterFlags::EXT_ARG,
            buffers: Buffers {
                region,
                offers,
                buffer_bytes,
                count,
                tail: 0,
            },
            waiting: Vec::new(),
            kernel_entries: 0,
        };
        ring.register_self();
        for id in 0..entries {
            ring.offer(id);
        }
        ring.publish_offers();
        Ok(ring)
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Registers the ring descriptor for this thread, which saves a reference count per enter. Optional.
    fn register_self(&mut self) {
        let mut update = raw::io_uring_rsrc_update::default();
        update.offset = u32::MAX;
        update.data = raw::io_uring_ptr::new(self.ring.as_raw_fd() as usize as *mut _);
        // SAFETY: (1) the descriptor is a ring; (2) `arg` points to one io_uring_rsrc_update, alive for the call.
        let registered = unsafe {
            let fd = BorrowedFd::borrow_raw(self.ring.as_raw_fd());
            let op = raw::IoringRegisterOp::RegisterRingFds;
            raw::io_uring_register(fd, op, ptr::from_mut(&mut update).cast(), 1)
        };
        if let (Ok(1), Ok(number)) = (registered, RawFd::try_from(update.offset)) {
            self.enter_fd = number;
            self.enter_flags |= raw::IoringEnterFlags::REGISTERED_RING;
        }
    }

    /// Queues one submission; enters the kernel only if the queue is full.
    ///
    /// # Safety
    /// Memory that the operation points to stays valid, and is touched by nobody else, until its last completion has
    /// been reaped.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.waiting.is_empty() {
            // SAFETY: the caller's promise is the one that `push` asks for.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.waiting.push(entry);
        self.make_room();
    }

    /// Submits what is queued, without waiting, then queues what had found no place.
    #[cold]
    fn make_room(&mut self) {
        // A failure (memory, interrupt) leaves the entries where they are; the next enter tries again.
        let _later = self.enter_raw(0, None);
        self.refill();
    }

    fn refill(&mut self) {
        let mut moved = 0;
        for entry in &self.waiting {
            // SAFETY: promised by the caller of `push` for this very entry.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                break;
            }
            moved += 1;
        }
        self.waiting.drain(..moved);
    }

    /// Submits everything and waits for `want` completions or the timeout. Being interrupted, timing out and a
    /// kernel short of memory are not errors: the caller comes back anyway.
    pub(crate) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.make_room();
        }
        self.enter_raw(want, timeout)
    }

    fn enter_raw(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let timespec = timeout.map(Timespec::from);
        let args = match &timespec {
            Some(timespec) => SubmitArgs::new().timespec(timespec),
            None => SubmitArgs::new(),
        };
        // INVARIANT: the queue has SQ_ENTRIES places, a u32.
        let to_submit = self.ring.submission().len() as u32;
        self.kernel_entries += 1;
        // SAFETY: (1) the number is the ring's descriptor or its registered index, as the flags say; (2) `args` is
        // laid out as io_uring_getevents_arg (transparent over it) and lives through the call with its timespec;
        // (3) what the queued entries point to is promised by the callers of `push`.
        let entered = unsafe {
            let fd = BorrowedFd::borrow_raw(self.enter_fd);
            let arg = ptr::from_ref(&args).cast::<raw::io_uring_getevents_arg>();
            raw::io_uring_enter_arg(fd, to_submit, want, self.enter_flags, arg.as_ref())
        };
        use rustix::io::Errno;
        match entered {
            Ok(_) | Err(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next completion, if the kernel has posted one.
    #[inline]
    pub(crate) fn reap(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Where a buffer starts in the region.
    #[inline]
    pub(crate) fn start_of(&self, id: u16) -> u32 {
        // INVARIANT: the whole region is under 4 GiB (checked in `new`).
        (usize::from(id) * self.buffers.buffer_bytes) as u32
    }

    /// Puts a buffer back on offer; the kernel sees it after `publish_offers`.
    #[inline]
    pub(crate) fn offer(&mut self, id: u16) {
        let buffers = &mut self.buffers;
        let place = usize::from(buffers.tail) & (buffers.count - 1);
        let start = usize::from(id) * buffers.buffer_bytes;
        debug_assert!(
            usize::from(id) < buffers.count,
            "only offered buffers come back"
        );
        // SAFETY: `place` is inside the ring of `count` entries, `start` inside the region; the kernel reads an
        // entry only once the tail has passed it, and this one lies at the tail. The writes leave the tail's two
        // bytes (in `resv` of entry 0) alone, as the setters touch other fields.
        unsafe {
            let entry = &mut *buffers
                .offers
                .base()
                .as_ptr()
                .cast::<BufRingEntry>()
                .add(place);
            entry.set_addr(buffers.region.base().as_ptr().add(start) as u64);
            entry.set_len(buffers.buffer_bytes as u32);
            entry.set_bid(id);
        }
        buffers.tail = buffers.tail.wrapping_add(1);
    }

    /// Lets the kernel see every buffer offered so far.
    #[inline]
    pub(crate) fn publish_offers(&mut self) {
        let base = self.buffers.offers.base().as_ptr().cast::<BufRingEntry>();
        // SAFETY: the base is the first entry of the registered ring, initialised; its tail is an aligned u16 that
        // the kernel only reads.
        let tail = unsafe { &*BufRingEntry::tail(base).cast::<AtomicU16>() };
        tail.store(self.buffers.tail, Ordering::Release);
    }

    /// Copies bytes into a scratch buffer, as many as fit; says where they start, and how many they are.
    pub(crate) fn scratch(&mut self, i: usize, bytes: &[u8]) -> Option<(u32, usize)> {
        if i >= SCRATCH_COUNT {
            return None;
        }
        let len = bytes.len().min(self.buffers.buffer_bytes);
        let start = (self.buffers.count + i) * self.buffers.buffer_bytes;
        // SAFETY: scratch buffers lie in the region after the offered ones, so the kernel never writes there, and
        // `&mut self` means that no view is out. Source and target are different allocations.
        unsafe {
            let target = self.buffers.region.base().as_ptr().add(start);
            ptr::copy_nonoverlapping(bytes.as_ptr(), target, len);
        }
        Some((start as u32, len))
    }

    /// Gives the memory up for good, because the kernel may still write to it.
    pub(crate) fn leak_memory(&mut self) {
        if let Some(empty) = Region::new(0) {
            std::mem::forget(std::mem::replace(&mut self.buffers.region, empty));
        }
        if let Some(empty) = Region::new(0) {
            std::mem::forget(std::mem::replace(&mut self.buffers.offers, empty));
        }
    }

    pub(crate) fn pool(&self) -> usize {
        self.buffers.region.base().as_ptr() as usize
    }

    /// What may be read in a turn.
    pub(crate) fn view(&self, turn: u64) -> View<'_> {
        let region = &self.buffers.region;
        // SAFETY: (1) the region is initialised (zeroed at birth) and lives as long as `self`; (2) spans of this
        // turn cover buffers whose completion was reaped in this turn: the kernel lost them with that completion and
        // gets them back only by `offer`, which needs `&mut self` and so cannot happen while the view lives.
        unsafe { View::new(region.base().as_ptr(), region.bytes(), turn) }
    }

    /// The received bytes of one buffer, to be copied elsewhere by the driver.
    pub(crate) fn received(&self, start: u32, len: usize) -> &[u8] {
        let region = &self.buffers.region;
        assert!(
            start as usize + len <= region.bytes(),
            "a completion stays in the region"
        );
        // SAFETY: in bounds; the driver asks only for a buffer whose completion it has just reaped, so the kernel
        // does not write to it (see `view`).
        unsafe { std::slice::from_raw_parts(region.base().as_ptr().add(start as usize), len) }
    }
}

/// A ring of the best grade that this kernel takes.
fn build() -> io::Result<IoUring> {
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for grade in [Grade::Best, Grade::Deferred, Grade::Plain] {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_submit_all()
            .setup_coop_taskrun()
            .setup_cqsize(CQ_ENTRIES);
        if grade != Grade::Plain {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        if grade == Grade::Best {
            builder.setup_no_sqarray();
        }
        match builder.build(SQ_ENTRIES) {
            Ok(ring) => return Ok(ring),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                last = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
