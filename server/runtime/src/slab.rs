//! Hot path. Connections by dense index; a generation per index makes stale ids harmless.

use crate::service::ConnId;

/// A table of connection states that hands out [`ConnId`]s.
pub(crate) struct Slab<C> {
    places: Vec<Place<C>>,
    free: Vec<u32>,
}

struct Place<C> {
    generation: u32,
    state: Option<C>,
}

impl<C> Slab<C> {
    pub(crate) fn new() -> Slab<C> {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// `None` when the index space is full; descriptors run out long before.
    pub(crate) fn insert(&mut self, state: C) -> Option<ConnId> {
        if let Some(index) = self.free.pop() {
            let place = self.places.get_mut(index as usize)?;
            debug_assert!(place.state.is_none(), "a free index is empty");
            place.state = Some(state);
            return Some(ConnId {
                index,
                generation: place.generation,
            });
        }
        let index = u32::try_from(self.places.len()).ok()?;
        self.places.push(Place {
            generation: 0,
            state: Some(state),
        });
        Some(ConnId {
            index,
            generation: 0,
        })
    }

    /// The state behind an id, unless it is stale.
    #[inline]
    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut C> {
        let place = self.places.get_mut(conn.index as usize)?;
        if place.generation == conn.generation {
            place.state.as_mut()
        } else {
            None
        }
    }

    /// Whoever lives at an index now, with its id.
    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> Option<(ConnId, &mut C)> {
        let place = self.places.get_mut(index as usize)?;
        let conn = ConnId {
            index,
            generation: place.generation,
        };
        place.state.as_mut().map(|state| (conn, state))
    }

    /// Takes the state out and makes its id stale.
    pub(crate) fn remove(&mut self, index: u32) -> Option<C> {
        let place = self.places.get_mut(index as usize)?;
        let state = place.state.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        Some(state)
    }

    /// The states of all that live.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &C> {
        self.places.iter().filter_map(|place| place.state.as_ref())
    }

    /// Every index that is in use.
    pub(crate) fn live(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.places)
            .filter(|(_, p)| p.state.is_some())
            .map(|(i, _)| i)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_used_again_makes_the_old_id_stale() {
        let mut slab = Slab::new();
        let old = slab.insert('a').unwrap();
        assert_eq!(slab.remove(old.index), Some('a'));
        let new = slab.insert('b').unwrap();
        assert_eq!((old.index, new.index), (0, 0));
        assert_ne!(old, new);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.get_mut(new), Some(&mut 'b'));
        assert_eq!(ConnId::from_u64(new.to_u64()), new);
        assert_eq!(slab.remove(7), None);
        assert_eq!(slab.live(), vec![0]);
    }
}
