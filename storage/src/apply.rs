//! Applying effects: what followers, replay, snapshots and other regions do.
//!
//! Law: a shard that applies the effects another recorded has the same digest. Applying records
//! nothing: whoever applies has the record already. It asks no clock either: a deadline that has passed
//! here had not passed where the effect was recorded, and the `Expire` of that time is still to come.

use crate::edit::Edit;
use crate::effect::{Corrupt, Effect};
use crate::hash::Key;
use crate::shard::Shard;
use crate::stream_effect::{StreamChange, words_of};
use crate::value::Hash;
use crate::value::stream::STREAM_NODE_BYTES_MAX;
use crate::view::{Value, WrongType};
use crate::whole::read_value;
use crate::{SLOTS, Slot};

impl From<WrongType> for Corrupt {
    fn from(_: WrongType) -> Self {
        Corrupt
    }
}

impl Shard {
    /// Applies one effect to database `db`.
    ///
    /// # Errors
    /// [`Corrupt`] when the effect cannot have been recorded on the data that is here (no such
    /// database, a slot of another shard, another type, an index out of range); then nothing has changed.
    pub fn apply(&mut self, db: u8, effect: &Effect<'_>) -> Result<(), Corrupt> {
        if usize::from(db) >= self.dbs.len() || effect.key().is_some_and(|key| !self.holds(key)) {
            return Err(Corrupt);
        }
        let recording = self.effects.is_recording();
        self.effects.set_recording(false);
        let done = self.apply_unrecorded(db, effect);
        self.effects.set_recording(recording);
        done
    }

    /// Whether a key's slot is here: at home, or with all others on a visit.
    fn holds(&self, key: &[u8]) -> bool {
        let slot = Slot::of(key);
        match self.owns(slot) {
            true => !self.away.contains(slot),
            false => self.guests + self.owned.len() >= SLOTS,
        }
    }

    fn applying(&mut self) -> Edit<'_> {
        Edit::applying(self)
    }

    fn apply_unrecorded(&mut self, db: u8, effect: &Effect<'_>) -> Result<(), Corrupt> {
        match *effect {
            Effect::PutString { key, value, ttl } => {
                self.applying().put_bytes(&Key::new(db, key), value, ttl)
            }
            Effect::PutInt { key, value, ttl } => {
                self.applying().put_int(&Key::new(db, key), value, ttl)
            }
            Effect::WriteString { key, offset, bytes } => {
                let (key, offset) = (
                    Key::new(db, key),
                    usize::try_from(offset).map_err(|_| Corrupt)?,
                );
                // A record of ten bytes may rightly ask for a long gap (SETRANGE did): memory that nobody touches, but bounded.
                if offset > self.limits.string_bytes_max
                    && offset > self.applying().text_len(&key)?
                {
                    return Err(Corrupt);
                }
                self.applying().write_string(&key, offset, bytes)?;
            }
            Effect::PutValue { key, value, ttl } => {
                let value = read_value(value, &self.limits)?;
                self.applying().put_value(&Key::new(db, key), value, ttl);
            }
            Effect::Remove { key } | Effect::Expire { key } => {
                self.applying().remove(&Key::new(db, key));
            }
            Effect::ExpireAt { key, at_ms } => {
                self.applying().expire_at(&Key::new(db, key), at_ms);
            }
            Effect::Persist { key } => {
                self.applying().persist(&Key::new(db, key));
            }
            Effect::FlushDb => self.applying().flush_db(db),
            Effect::FlushAll => self.applying().flush_all(),
            Effect::SwapDb { with } => {
                if usize::from(with) >= self.dbs.len() {
                    return Err(Corrupt);
                }
                self.applying().swap_db(db, with);
            }
            Effect::FlushSlots { first, last } => self.applying().flush_slots(db, first, last),
            // Nothing of the data: the reader of the log takes it.
            Effect::SourceAt { .. } | Effect::LineAt { .. } => {}
            _ => self.apply_to_collection(db, effect)?,
        }
        Ok(())
    }

    fn apply_to_collection(&mut self, db: u8, effect: &Effect<'_>) -> Result<(), Corrupt> {
        match *effect {
            Effect::ListPush { key, side, value } => {
                self.applying()
                    .edit_list_or_new(&Key::new(db, key))?
                    .push(side, value);
            }
            Effect::HashSet { key, field, value } => {
                self.applying()
                    .edit_hash_or_new(&Key::new(db, key))?
                    .set(field, value);
            }
            Effect::HashRemove { key, field } => {
                self.applying()
                    .edit_hash(&Key::new(db, key))?
                    .ok_or(Corrupt)?
                    .remove(field);
            }
            Effect::HashExpireAt { key, field, at_ms } => {
                let key = Key::new(db, key);
                let mut edit = self.applying();
                let mut hash = edit.edit_hash(&key)?.ok_or(Corrupt)?;
                if at_ms > Hash::DEADLINE_MS_MAX || !hash.contains(field) {
                    return Err(Corrupt);
                }
                hash.expire_at(field, at_ms);
            }
            Effect::HashPersist { key, field } => {
                self.applying()
                    .edit_hash(&Key::new(db, key))?
                    .ok_or(Corrupt)?
                    .persist(field);
            }
            Effect::SetAdd { key, member } => {
                self.applying()
                    .edit_set_or_new(&Key::new(db, key))?
                    .add(member);
            }
            Effect::SetRemove { key, member } => {
                self.applying()
                    .edit_set(&Key::new(db, key))?
                    .ok_or(Corrupt)?
                    .remove(member);
            }
            Effect::ZsetAdd { key, member, score } => {
                self.applying()
                    .edit_zset_or_new(&Key::new(db, key))?
                    .add(member, score);
            }
            Effect::ZsetRemove { key, member } => {
                self.applying()
                    .edit_zset(&Key::new(db, key))?
                    .ok_or(Corrupt)?
                    .remove(member);
            }
            Effect::Stream { key, change } => self.apply_to_stream(&Key::new(db, key), change)?,
            _ => self.apply_to_list(db, effect)?,
        }
        Ok(())
    }

    fn apply_to_list(&mut self, db: u8, effect: &Effect<'_>) -> Result<(), Corrupt> {
        let (key, index) = match *effect {
            Effect::ListPop { key, .. } => (key, 0),
            Effect::ListSet { key, index, .. }
            | Effect::ListInsert { key, index, .. }
            | Effect::ListRemove { key, index } => (key, index),
            Effect::ListTrim { key, start, .. } => (key, start),
            _ => return Err(Corrupt),
        };
        let index = usize::try_from(index).map_err(|_| Corrupt)?;
        let key = Key::new(db, key);
        let mut edit = self.applying();
        let mut list = edit.edit_list(&key)?.ok_or(Corrupt)?;
        let len = list.len();
        let fits = match *effect {
            Effect::ListPop { side, .. } => list.drop_end(side),
            Effect::ListSet { value, .. } => list.set(index, value),
            Effect::ListRemove { .. } => list.remove(index),
            Effect::ListInsert { value, .. } if index <= len => {
                list.insert(index, value);
                true
            }
            Effect::ListTrim { end, .. } if index as u64 <= end && end <= len as u64 => {
                list.trim(index, end as usize);
                true
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(Corrupt) }
    }

    fn apply_to_stream(&mut self, key: &Key<'_>, change: StreamChange<'_>) -> Result<(), Corrupt> {
        let mut edit = self.applying();
        if matches!(change, StreamChange::Make | StreamChange::Add { .. }) {
            let mut stream = edit.edit_stream_or_new(key)?;
            let StreamChange::Add { id, words } = change else {
                stream.make();
                return Ok(());
            };
            let list = words_of(words)?;
            let fits = words.len() as u64 <= STREAM_NODE_BYTES_MAX + 10 * list.len() as u64;
            return if fits && stream.add(id, list.into_iter()) {
                Ok(())
            } else {
                Err(Corrupt)
            };
        }
        let mut stream = edit.edit_stream(key)?.ok_or(Corrupt)?;
        let done = match change {
            StreamChange::Make | StreamChange::Add { .. } => false,
            StreamChange::Remove { id } => stream.remove(id),
            StreamChange::RemoveThrough { id } => stream.remove_through(id) > 0,
            StreamChange::SetIds {
                last,
                added,
                max_deleted,
            } => {
                let fits = stream.last_entry_id().is_none_or(|id| id <= last);
                if fits {
                    stream.set_ids(last, added, max_deleted);
                }
                fits
            }
            StreamChange::PutGroup { group, last, read } => {
                stream.put_group(group, last, read);
                true
            }
            StreamChange::RemoveGroup { group } => stream.remove_group(group),
            StreamChange::PutConsumer {
                group,
                consumer,
                seen_ms,
                active_ms,
            } => {
                let known = stream.group(group).is_some();
                stream.put_consumer(group, consumer, seen_ms, active_ms);
                known
            }
            StreamChange::RemoveConsumer { group, consumer } => {
                stream.remove_consumer(group, consumer).is_some()
            }
            StreamChange::PutPending {
                group,
                consumer,
                id,
                delivered_ms,
                count,
            } => stream.put_pending(group, consumer, id, delivered_ms, count),
            StreamChange::RemovePending { group, id } => stream.remove_pending(group, id),
        };
        if done { Ok(()) } else { Err(Corrupt) }
    }

    /// Whether the key holds what no effect could have left: an empty collection. For tests and scrubbing.
    pub fn is_sound(&self, key: &Key<'_>) -> bool {
        match self.peek(key) {
            Some(Value::List(list)) => !list.is_empty(),
            Some(Value::Hash(hash)) => !hash.is_empty(),
            Some(Value::Set(set)) => !set.is_empty(),
            Some(Value::Zset(zset)) => !zset.is_empty(),
            Some(Value::Stream(stream)) => !stream.is_vacant(),
            Some(Value::String(_)) | None => true,
        }
    }
}
