//! Caches in a simulator, each by the book: what the server's policies are measured against. Every object counts as one.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// A cache that is asked for objects by number.
pub(crate) trait Cache {
    /// Asks for an object, which is there afterwards; whether it was.
    fn ask(&mut self, object: u32) -> bool;
}

/// The one not asked for for longest goes.
pub(crate) struct Lru {
    capacity: usize,
    clock: u64,
    at: HashMap<u32, u64>,
    order: BTreeSet<(u64, u32)>,
}

impl Lru {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            at: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl Cache for Lru {
    fn ask(&mut self, object: u32) -> bool {
        self.clock += 1;
        let before = self.at.insert(object, self.clock);
        if let Some(before) = before {
            self.order.remove(&(before, object));
        }
        self.order.insert((self.clock, object));
        if self.at.len() > self.capacity
            && let Some((_, object)) = self.order.pop_first()
        {
            self.at.remove(&object);
        }
        before.is_some()
    }
}

/// The one asked for least often goes, the one not asked for for longest of those. It forgets an object's count with the object.
pub(crate) struct Lfu {
    capacity: usize,
    clock: u64,
    at: HashMap<u32, (u64, u64)>,
    order: BTreeSet<(u64, u64, u32)>,
}

impl Lfu {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            at: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl Cache for Lfu {
    fn ask(&mut self, object: u32) -> bool {
        self.clock += 1;
        let before = self.at.get(&object).copied();
        if let Some((uses, when)) = before {
            self.order.remove(&(uses, when, object));
        } else if self.at.len() == self.capacity
            && let Some((_, _, object)) = self.order.pop_first()
        {
            self.at.remove(&object);
        }
        let now = (before.map_or(1, |(uses, _)| uses + 1), self.clock);
        self.at.insert(object, now);
        self.order.insert((now.0, now.1, object));
        before.is_some()
    }
}

/// S3-FIFO as its paper has it: a small queue of a tenth, a main queue whose used objects go round, ghosts.
pub(crate) struct S3Fifo {
    small_max: usize,
    main_max: usize,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    /// Uses of those that are held.
    uses: HashMap<u32, u8>,
    ghosts: VecDeque<u32>,
    /// How often each is among them: what came back is not taken out of the queue.
    ghost: HashMap<u32, u32>,
}

impl S3Fifo {
    pub(crate) fn new(capacity: usize) -> Self {
        let small_max = (capacity / 10).max(1);
        Self {
            small_max,
            main_max: capacity.saturating_sub(small_max).max(1),
            small: VecDeque::new(),
            main: VecDeque::new(),
            uses: HashMap::new(),
            ghosts: VecDeque::new(),
            ghost: HashMap::new(),
        }
    }

    fn make_room(&mut self) {
        while self.small.len() + self.main.len() >= self.small_max + self.main_max {
            if self.small.len() >= self.small_max {
                self.shrink_small();
            } else {
                self.shrink_main();
            }
        }
    }

    fn shrink_small(&mut self) {
        while let Some(object) = self.small.pop_front() {
            if self.uses.get(&object).is_some_and(|uses| *uses > 1) {
                self.uses.insert(object, 0);
                self.main.push_back(object);
                if self.main.len() > self.main_max {
                    self.shrink_main();
                }
                continue;
            }
            self.uses.remove(&object);
            self.ghosts.push_back(object);
            *self.ghost.entry(object).or_default() += 1;
            if self.ghosts.len() > self.main_max
                && let Some(oldest) = self.ghosts.pop_front()
                && let Some(count) = self.ghost.get_mut(&oldest)
            {
                *count -= 1;
                if *count == 0 {
                    self.ghost.remove(&oldest);
                }
            }
            return;
        }
    }

    fn shrink_main(&mut self) {
        while let Some(object) = self.main.pop_front() {
            match self.uses.get_mut(&object) {
                Some(uses) if *uses > 0 => {
                    *uses -= 1;
                    self.main.push_back(object);
                }
                _ => {
                    self.uses.remove(&object);
                    return;
                }
            }
        }
    }
}

impl Cache for S3Fifo {
    fn ask(&mut self, object: u32) -> bool {
        if let Some(uses) = self.uses.get_mut(&object) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        let is_full = self.small.len() + self.main.len() >= self.small_max + self.main_max;
        let was_ghost = self.ghost.contains_key(&object);
        self.make_room();
        // Until it is full for the first time, what small has no room for is main's.
        let small_is_full =
            !is_full && self.ghosts.is_empty() && self.small.len() >= self.small_max;
        if was_ghost || small_is_full {
            self.main.push_back(object);
        } else {
            self.small.push_back(object);
        }
        self.uses.insert(object, 0);
        false
    }
}

/// Misses of a trace, as a share of its requests.
pub(crate) fn misses(cache: &mut dyn Cache, trace: &[u32]) -> f64 {
    let misses = trace.iter().filter(|object| !cache.ask(**object)).count();
    misses as f64 / trace.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keeps_what_it_is_known_for() {
        let scan: Vec<u32> = [1, 2, 1, 2, 1, 2]
            .into_iter()
            .chain(10..40)
            .chain([1, 2])
            .collect();
        let hits = |cache: &mut dyn Cache| scan.iter().filter(|object| cache.ask(**object)).count();
        assert_eq!(hits(&mut Lru::new(8)), 4, "a scan drives all out");
        assert_eq!(hits(&mut Lfu::new(8)), 6);
        assert_eq!(hits(&mut S3Fifo::new(8)), 6);
        let all: Vec<u32> = (0..8).chain(0..8).collect();
        for cache in [
            &mut Lru::new(8) as &mut dyn Cache,
            &mut Lfu::new(8),
            &mut S3Fifo::new(8),
        ] {
            assert_eq!(misses(cache, &all), 0.5, "what fits stays");
        }
    }
}
