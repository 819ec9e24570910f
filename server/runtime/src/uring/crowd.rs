//! Hot path. How many connections are busy, and how many of them to wait for.
//!
//! A core that is faster than its clients would enter the kernel for every single request, and its clients would be woken for
//! every single reply. While many connections are busy it waits for an eighth of them instead, for a moment
//! ([`MOMENT_US`]) at most: no client waits for more than an eighth of the others, and one that is alone for none. It is
//! what network cards do (interrupt moderation). A core with work at hand never waits at all.

use std::time::Duration;

/// How long busy connections are counted.
const WINDOW_US: u64 = 1000;
/// So many busy connections are waited for one by one.
const ALONE_MAX: u32 = 15;
/// One in so many is waited for.
const SHARE: u32 = 8;
/// At most so many are waited for.
const COUNT_MAX: u32 = 32;
/// How long, at most.
const MOMENT_US: u64 = 25;

/// See the module's head.
#[derive(Default)]
pub(super) struct Crowd {
    /// Low bits of the window's number; never that of a new connection.
    window: u16,
    ends_us: u64,
    /// Connections seen in this window, and in the one before.
    seen: u32,
    busy: u32,
    /// Arrivals since the last wait.
    arrivals: u32,
    /// Connections that were sent something within a window and have not been heard of since: where a turn answers many at once (a sync
    /// of the log has ended), they are a crowd though it meets less than once a window.
    answered: u32,
    answered_until_us: u64,
}

impl Crowd {
    /// A turn begins.
    #[inline]
    pub(super) fn turn(&mut self, mono_us: u64) {
        if mono_us >= self.ends_us {
            let is_next = mono_us < self.ends_us + WINDOW_US;
            self.busy = if is_next { self.seen } else { 0 };
            self.seen = 0;
            self.ends_us = mono_us + WINDOW_US;
            self.window = self.window.wrapping_add(1).max(1);
        }
        self.arrivals = 0;
        if mono_us >= self.answered_until_us {
            self.answered = 0;
        }
    }

    /// A connection is sent something, in a turn that began at `mono_us`.
    #[inline]
    pub(super) fn answers(&mut self, mono_us: u64) {
        self.answered += 1;
        self.answered_until_us = mono_us + WINDOW_US;
    }

    /// A connection has sent something; `last` is the window in which it did so before.
    #[inline]
    pub(super) fn saw(&mut self, last: &mut u16) {
        self.arrivals += 1;
        self.answered = self.answered.saturating_sub(1);
        if *last != self.window {
            *last = self.window;
            self.seen += 1;
        }
    }

    /// How many arrivals to wait for and how long, unless one is enough.
    #[inline]
    pub(super) fn patience(&self) -> Option<(u32, Duration)> {
        // After a turn without an arrival the crowd has left, or it is slow.
        let busy = self.busy.max(self.answered);
        if busy <= ALONE_MAX || self.arrivals == 0 {
            return None;
        }
        let count = (busy / SHARE).min(COUNT_MAX);
        Some((count, Duration::from_micros(MOMENT_US)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window in which each of these connections is seen twice.
    fn window(crowd: &mut Crowd, at_us: u64, last: &mut [u16]) {
        crowd.turn(at_us);
        for _ in 0..2 {
            last.iter_mut().for_each(|last| crowd.saw(last));
        }
    }

    #[test]
    fn few_connections_are_not_waited_for() {
        let mut crowd = Crowd::default();
        let mut last = [0; ALONE_MAX as usize];
        for n in 1..10 {
            window(&mut crowd, n * WINDOW_US, &mut last);
            assert_eq!(crowd.patience(), None);
        }
    }

    #[test]
    fn one_in_eight_of_many_is_waited_for_until_they_leave() {
        let mut crowd = Crowd::default();
        let mut last = [0; 50];
        let moment = Duration::from_micros(MOMENT_US);
        window(&mut crowd, WINDOW_US, &mut last);
        assert_eq!(crowd.patience(), None, "not known yet");
        window(&mut crowd, 2 * WINDOW_US, &mut last);
        assert_eq!(crowd.patience(), Some((6, moment)));
        crowd.turn(2 * WINDOW_US + 1);
        assert_eq!(crowd.patience(), None, "a turn without an arrival");
        window(&mut crowd, 2 * WINDOW_US + 2, &mut last);
        assert_eq!(crowd.patience(), Some((6, moment)));
        window(&mut crowd, 9 * WINDOW_US, &mut last);
        assert_eq!(crowd.patience(), None, "they had been gone for long");
    }

    /// Fifty clients whose writes wait for the same sync, which takes several windows.
    #[test]
    fn who_is_answered_at_once_is_a_crowd_though_it_comes_seldom() {
        let mut crowd = Crowd::default();
        let mut last = [0; 50];
        let moment = Duration::from_micros(MOMENT_US);
        window(&mut crowd, WINDOW_US, &mut last);
        crowd.turn(9 * WINDOW_US);
        (0..50).for_each(|_| crowd.answers(9 * WINDOW_US));
        assert_eq!(
            crowd.patience(),
            None,
            "the first of them is not waited for"
        );
        crowd.turn(9 * WINDOW_US + 100);
        crowd.saw(&mut last[0]);
        assert_eq!(crowd.patience(), Some((6, moment)));
        last[1..41].iter_mut().for_each(|last| crowd.saw(last));
        assert_eq!(crowd.patience(), None, "nine are left");
        crowd.turn(10 * WINDOW_US + 101);
        crowd.saw(&mut last[41]);
        assert_eq!(crowd.answered, 0, "they do not come");
    }

    #[test]
    fn a_crowd_of_any_size_is_waited_for_in_part() {
        let mut crowd = Crowd::default();
        let mut last = [0; 5000];
        window(&mut crowd, WINDOW_US, &mut last);
        window(&mut crowd, 2 * WINDOW_US, &mut last);
        assert_eq!(crowd.patience().unwrap().0, COUNT_MAX);
    }
}
