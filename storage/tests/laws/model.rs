//! The model: ordered maps of plain values, and operations that run on it and on a shard alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use storage::{Added, Collection, Edit, Key, OwnedValue, Rng, Shard, Side, Ttl, Value};

use crate::DBS;

/// A value in std collections.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plain {
    String(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    /// Scores as bits of a number without negative zero.
    Zset(BTreeMap<Vec<u8>, u64>),
}

/// A key in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) db: u8,
    name: u8,
}

/// Names: short, empty, long, and several of one slot.
const NAMES: [&[u8]; 8] = [
    b"a",
    b"{a}b",
    b"{a}longer than eight",
    b"",
    b"k16_____________",
    b"other",
    &[b'L'; 300],
    b"x\0y",
];

impl Place {
    fn of(seed: u8) -> Place {
        Place {
            db: seed / 16 % DBS,
            name: seed % NAMES.len() as u8,
        }
    }

    pub(crate) fn key(self) -> Key<'static> {
        Key::new(self.db, NAMES[usize::from(self.name)])
    }
}

/// One operation; what it does follows from its numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) kind: u8,
    pub(crate) place: u8,
    seed: u64,
}

impl Arbitrary for Op {
    type Parameters = ();
    type Strategy = BoxedStrategy<Op>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        (0..KINDS, any::<u8>(), any::<u64>())
            .prop_map(|(kind, place, seed)| Op { kind, place, seed })
            .boxed()
    }
}

/// Kinds of operations: one of the last two exchanges or empties databases, with its seed's leave.
pub(crate) const KINDS: u8 = 24;
pub(crate) const SWAP: u8 = 22;
pub(crate) const FLUSH: u8 = 23;

/// What the shard should hold.
#[derive(Clone)]
pub(crate) struct Model {
    items: BTreeMap<Place, (Plain, Option<u64>)>,
    pub(crate) now_ms: u64,
}

fn canonical(text: &[u8]) -> Option<i64> {
    let n: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (n.to_string().as_bytes() == text).then_some(n)
}

/// A string of some length, or a number.
fn bytes(rng: &mut Rng) -> Vec<u8> {
    const LENS: [usize; 12] = [0, 1, 7, 8, 20, 44, 45, 100, 511, 512, 513, 3000];
    match rng.index(4) {
        0 => rng.below(2000).to_string().into_bytes(),
        1 => (rng.next_u64().cast_signed() >> rng.index(64))
            .to_string()
            .into_bytes(),
        2 => b"007".to_vec(),
        _ => {
            let fill = rng.next_u64() as u8;
            let len = LENS[rng.index(LENS.len())];
            (0..len).map(|i| fill.wrapping_add(i as u8)).collect()
        }
    }
}

/// An element: few of them, so that they meet again.
fn element(rng: &mut Rng) -> Vec<u8> {
    match rng.index(12) {
        n @ 0..6 => n.to_string().into_bytes(),
        n @ 6..9 => format!("member {n}").into_bytes(),
        9 => Vec::new(),
        10 => vec![b'm'; 70],
        _ => rng.below(300).to_string().into_bytes(),
    }
}

fn score(rng: &mut Rng) -> f64 {
    [
        0.0,
        -0.0,
        1.0,
        -2.5,
        1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        3.25,
    ][rng.index(8)]
}

fn side(rng: &mut Rng) -> Side {
    if rng.index(2) == 0 {
        Side::Left
    } else {
        Side::Right
    }
}

fn score_bits(score: f64) -> u64 {
    (score + 0.0).to_bits()
}

fn plain(value: Value<'_>) -> Plain {
    match value {
        Value::String(text) => Plain::String(text.to_vec()),
        Value::List(list) => Plain::List(list.iter().map(<[u8]>::to_vec).collect()),
        Value::Hash(hash) => {
            Plain::Hash(hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect())
        }
        Value::Set(set) => Plain::Set(set.iter().map(|m| m.to_vec()).collect()),
        Value::Zset(zset) => Plain::Zset(
            zset.iter()
                .map(|(m, s)| (m.to_vec(), score_bits(s)))
                .collect(),
        ),
        // They have laws of their own: `tests/streams.rs`.
        Value::Stream(_) => unreachable!("no op makes a stream"),
    }
}

pub(crate) fn plain_owned(value: &OwnedValue) -> Plain {
    match value {
        OwnedValue::Int(n) => Plain::String(n.to_string().into_bytes()),
        OwnedValue::String(bytes) | OwnedValue::Raw(bytes) => Plain::String(bytes.clone()),
        OwnedValue::List(list) => plain(Value::List(list)),
        OwnedValue::Hash(hash) => plain(Value::Hash(hash)),
        OwnedValue::Set(set) => plain(Value::Set(set)),
        OwnedValue::Zset(zset) => plain(Value::Zset(zset)),
        OwnedValue::Stream(stream) => plain(Value::Stream(stream)),
    }
}

fn write_plain(edit: &mut Edit<'_>, key: &Key<'_>, value: &Plain) {
    match value {
        Plain::String(bytes) => edit.put_bytes(key, bytes, Ttl::Clear),
        Plain::List(list) => {
            let mut session = edit.edit_list_or_new(key).unwrap();
            list.iter().rev().for_each(|e| session.push(Side::Left, e));
        }
        Plain::Hash(hash) => {
            let mut session = edit.edit_hash_or_new(key).unwrap();
            hash.iter().rev().for_each(|(f, v)| {
                session.set(f, v);
            });
        }
        Plain::Set(set) => {
            let mut session = edit.edit_set_or_new(key).unwrap();
            set.iter().rev().for_each(|m| {
                session.add(m);
            });
        }
        Plain::Zset(zset) => {
            let mut session = edit.edit_zset_or_new(key).unwrap();
            zset.iter().rev().for_each(|(m, s)| {
                session.add(m, f64::from_bits(*s));
            });
        }
    }
}

macro_rules! of_kind {
    ($name:ident, $kind:ident, $type:ty) => {
        /// The value, made if there is none; None for another type.
        fn $name(&mut self, place: Place) -> Option<&mut $type> {
            self.live(place);
            let new = || (Plain::$kind(<$type>::new()), None);
            match &mut self.items.entry(place).or_insert_with(new).0 {
                Plain::$kind(value) => Some(value),
                _ => None,
            }
        }
    };
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            items: BTreeMap::new(),
            now_ms: crate::START_MS,
        }
    }

    of_kind!(list, List, VecDeque<Vec<u8>>);
    of_kind!(hash, Hash, BTreeMap<Vec<u8>, Vec<u8>>);
    of_kind!(set, Set, BTreeSet<Vec<u8>>);
    of_kind!(zset, Zset, BTreeMap<Vec<u8>, u64>);

    /// The item at a place, if its deadline has not passed.
    fn live(&mut self, place: Place) -> Option<&mut (Plain, Option<u64>)> {
        let now = self.now_ms;
        if self
            .items
            .get(&place)
            .is_some_and(|(_, at)| at.is_some_and(|at| at <= now))
        {
            self.items.remove(&place);
        }
        self.items.get_mut(&place)
    }

    /// No key holds an empty collection.
    fn drop_if_empty(&mut self, place: Place) {
        let empty = match self.items.get(&place) {
            Some((Plain::List(list), _)) => list.is_empty(),
            Some((Plain::Hash(hash), _)) => hash.is_empty(),
            Some((Plain::Set(set), _)) => set.is_empty(),
            Some((Plain::Zset(zset), _)) => zset.is_empty(),
            _ => false,
        };
        if empty {
            self.items.remove(&place);
        }
    }

    fn put(&mut self, place: Place, value: Plain, ttl: Ttl) {
        let deadline = match ttl {
            Ttl::Clear => None,
            Ttl::Keep => self.live(place).and_then(|(_, at)| *at),
            Ttl::At(at) => Some(at),
        };
        self.items.insert(place, (value, deadline));
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        self.items.keys().copied().collect()
    }

    pub(crate) fn some_key(&mut self) -> Option<Place> {
        let places = self.places();
        places.into_iter().find(|place| self.live(*place).is_some())
    }

    /// All of it in another shard, last key first.
    pub(crate) fn write_backwards(&mut self, shard: &mut Shard) {
        for place in self.places().into_iter().rev() {
            let Some((value, deadline)) = self.live(place).cloned() else {
                continue;
            };
            let key = place.key();
            write_plain(&mut shard.edit(), &key, &value);
            if let Some(at_ms) = deadline {
                shard.edit().expire_at(&key, at_ms);
            }
        }
    }

    /// Asserts that a shard holds exactly this.
    pub(crate) fn compare(&mut self, shard: &Shard) {
        let mut live = vec![0; usize::from(DBS)];
        for place in self.places() {
            if self.live(place).is_some() {
                live[usize::from(place.db)] += 1;
            }
            self.compare_at(shard, place);
        }
        for db in 0..DBS {
            let mut shown = BTreeSet::new();
            shard.keys(db, |key| assert!(shown.insert(key.to_vec()), "shown once"));
            assert_eq!(shown.len(), live[usize::from(db)]);
            assert!(shard.count(db).keys >= shown.len());
            let random = shard.random_key(db, &mut Rng::new(7));
            assert_eq!(random.is_some(), !shown.is_empty());
            assert!(random.is_none_or(|key| shown.contains(key)));
        }
    }

    pub(crate) fn compare_at(&mut self, shard: &Shard, place: Place) {
        let key = place.key();
        let expected = self.live(place).cloned();
        let found = shard.peek(&key).map(plain);
        let found = found.map(|value| (value, shard.deadline_ms(&key).flatten()));
        assert_eq!(found, expected, "{place:?}");
        assert!(shard.is_sound(&key));
        let info = shard.info(&key);
        assert_eq!(info.is_some(), expected.is_some());
        if let Some(info) = info {
            assert!(info.heap_bytes > 0);
        }
    }
}

impl Op {
    /// Every place that operations go to.
    pub(crate) fn places() -> impl Iterator<Item = Place> {
        let names = NAMES.len() as u8;
        (0..DBS * names).map(move |n| Place::of(n / names * 16 + n % names))
    }

    pub(crate) fn place(&self) -> Place {
        Place::of(self.place)
    }

    /// How far the clock moves at this operation, ms; 0 for most.
    pub(crate) fn time_jump_ms(&self) -> u64 {
        let jump = [1, 7, 8, 20, 100, 5_000, 600_000, 90_000_000];
        if self.kind == 21 {
            jump[self.seed as usize % jump.len()]
        } else {
            0
        }
    }

    /// The databases that it exchanges, when it does.
    pub(crate) fn swaps(&self) -> Option<(u8, u8)> {
        let pick = |shift: u32| (self.seed >> shift) as u8 % DBS;
        (self.kind == SWAP).then(|| (pick(0), pick(8)))
    }

    /// The databases that it empties: one, or (None) all.
    pub(crate) fn flushes(&self) -> Option<Option<u8>> {
        match self.seed % 32 {
            _ if self.kind != FLUSH => None,
            0 => Some(None),
            n @ 1..8 => Some(Some(n as u8 % DBS)),
            _ => None,
        }
    }

    /// Runs on both and compares what they answer, and then the key.
    pub(crate) fn run(&self, shard: &mut Shard, model: &mut Model) {
        self.run_on_model_and(shard, model);
        model.compare_at(shard, self.place());
    }

    fn ttl(&self, rng: &mut Rng, now_ms: u64) -> Ttl {
        const AHEAD_MS: [u64; 10] = [
            1,
            5,
            9,
            30,
            200,
            1_999,
            2_500,
            60_000,
            3_600_000,
            40_000_000_000,
        ];
        match rng.index(4) {
            0 => Ttl::Clear,
            1 => Ttl::Keep,
            _ if rng.index(12) == 0 => Ttl::At(now_ms - rng.below(50)),
            _ => Ttl::At(now_ms + AHEAD_MS[rng.index(AHEAD_MS.len())]),
        }
    }

    fn run_on_model_and(&self, shard: &mut Shard, model: &mut Model) {
        let rng = &mut Rng::new(self.seed);
        let place = self.place();
        let key = place.key();
        let jump = self.time_jump_ms();
        if jump > 0 {
            model.now_ms += jump;
            shard.set_now(model.now_ms);
            while shard.expire_due(3) {}
        }
        let now_ms = model.now_ms;
        let mut edit = shard.edit();
        match self.kind {
            0 => {
                let (value, ttl) = (bytes(rng), self.ttl(rng, now_ms));
                edit.put_string(&key, &value, ttl);
                model.put(place, Plain::String(value), ttl);
            }
            1 => {
                let (n, ttl) = (
                    rng.next_u64().cast_signed() >> rng.index(64),
                    self.ttl(rng, now_ms),
                );
                edit.put_int(&key, n, ttl);
                model.put(place, Plain::String(n.to_string().into_bytes()), ttl);
            }
            2 => {
                let (value, ttl) = (bytes(rng), self.ttl(rng, now_ms));
                edit.put_bytes(&key, &value, ttl);
                model.put(place, Plain::String(value), ttl);
            }
            3 => {
                let (value, ttl) = (bytes(rng), self.ttl(rng, now_ms));
                edit.put_owned(&key, value.clone(), ttl);
                model.put(place, Plain::String(value), ttl);
            }
            4 | 5 => self.write_string(&mut edit, model, rng),
            6 | 7 => self.copy_or_move(&mut edit, model, rng),
            8 => {
                assert_eq!(edit.remove(&key), model.live(place).is_some());
                model.items.remove(&place);
            }
            9 | 10 => {
                let Ttl::At(at_ms) = self.ttl(rng, now_ms) else {
                    return;
                };
                assert_eq!(edit.expire_at(&key, at_ms), model.live(place).is_some());
                if at_ms <= now_ms {
                    model.items.remove(&place);
                } else if let Some((_, deadline)) = model.live(place) {
                    *deadline = Some(at_ms);
                }
            }
            11 => {
                let had = model.live(place).is_some_and(|(_, at)| at.take().is_some());
                assert_eq!(edit.persist(&key), had);
            }
            12..15 => self.edit_list(&mut edit, model, rng),
            15 | 16 => self.edit_hash(&mut edit, model, rng),
            17 | 18 => self.edit_set(&mut edit, model, rng),
            19 | 20 => self.edit_zset(&mut edit, model, rng),
            21 => {
                shard.free_garbage(rng.index(50));
            }
            _ => {
                self.run_on_databases(shard);
                self.run_on_models_databases(model);
                read(shard, model, place);
            }
        }
    }

    /// Exchanges or empties databases, if it is about that.
    pub(crate) fn run_on_databases(&self, shard: &mut Shard) {
        if let Some((a, b)) = self.swaps() {
            shard.edit().swap_db(a, b);
        }
        match self.flushes() {
            Some(Some(db)) => shard.edit().flush_db(db),
            Some(None) => shard.edit().flush_all(),
            None => {}
        }
    }

    pub(crate) fn run_on_models_databases(&self, model: &mut Model) {
        if let Some((a, b)) = self.swaps() {
            model.swap(a, b);
        }
        match self.flushes() {
            Some(Some(db)) => model.items.retain(|place, _| place.db != db),
            Some(None) => model.items.clear(),
            None => {}
        }
    }

    fn write_string(&self, edit: &mut Edit<'_>, model: &mut Model, rng: &mut Rng) {
        let (place, bytes) = (self.place(), bytes(rng));
        let ttl = if model.live(place).is_some() {
            Ttl::Keep
        } else {
            Ttl::Clear
        };
        let mut value = match model.live(place) {
            None => Vec::new(),
            Some((Plain::String(value), _)) => value.clone(),
            Some(_) => {
                assert!(edit.write_string(&place.key(), 0, &bytes).is_err());
                return;
            }
        };
        let offset = match rng.index(3) {
            0 => value.len(),
            1 => rng.index(value.len() + 1),
            _ => rng.index(700),
        };
        let len = edit.write_string(&place.key(), offset, &bytes);
        value.resize(value.len().max(offset + bytes.len()), 0);
        value[offset..offset + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(len, Ok(value.len()));
        model.put(place, Plain::String(value), ttl);
    }

    /// COPY, RENAME, and a value made elsewhere.
    fn copy_or_move(&self, edit: &mut Edit<'_>, model: &mut Model, rng: &mut Rng) {
        let (from, to) = (self.place(), Place::of(rng.next_u64() as u8));
        let ttl = self.ttl(rng, model.now_ms);
        if rng.index(5) == 0 {
            edit.put_value(
                &to.key(),
                OwnedValue::from(Collection::List(storage::List::new())),
                ttl,
            );
            model.items.remove(&to);
            return;
        }
        let (found, expected) = if rng.index(2) == 0 {
            let taken = edit.take(&from.key());
            model.live(from);
            (taken, model.items.remove(&from))
        } else {
            (edit.clone_value(&from.key()), model.live(from).cloned())
        };
        assert_eq!(
            found.as_ref().map(|(v, at)| (plain_owned(v), *at)),
            expected
        );
        if let (Some((value, _)), Some((same, _))) = (found, expected) {
            edit.put_value(&to.key(), value, ttl);
            model.put(to, same, ttl);
        }
    }

    fn edit_list(&self, edit: &mut Edit<'_>, model: &mut Model, rng: &mut Rng) {
        let place = self.place();
        let key = place.key();
        let Some(list) = model.list(place) else {
            assert!(edit.edit_list_or_new(&key).is_err());
            return;
        };
        if list.is_empty() && rng.index(4) == 0 {
            assert!(edit.edit_list(&key).is_ok_and(|session| session.is_none()));
        } else {
            let mut session = edit.edit_list_or_new(&key).unwrap();
            let fill = if rng.index(6) == 0 { 100 } else { 0 };
            for i in 0..fill {
                let element = [i as u8; 9];
                session.push(Side::Right, &element);
                list.push_back(element.to_vec());
            }
            for _ in 0..rng.index(6) {
                list_step(&mut session, list, rng);
                assert_eq!(session.len(), list.len());
            }
            if rng.index(8) == 0 {
                session.trim(1, 0);
                list.clear();
            }
        }
        model.drop_if_empty(place);
    }

    fn edit_hash(&self, edit: &mut Edit<'_>, model: &mut Model, rng: &mut Rng) {
        let place = self.place();
        let Some(hash) = model.hash(place) else {
            assert!(edit.edit_hash_or_new(&place.key()).is_err());
            return;
        };
        let mut session = edit.edit_hash_or_new(&place.key()).unwrap();
        let count = if rng.index(8) == 0 { 150 } else { rng.index(8) };
        for _ in 0..count {
            let field = element(rng);
            if rng.index(3) > 0 {
                let value = element(rng);
                let new = session.set(&field, &value);
                assert_eq!(new, hash.insert(field, value).is_none());
            } else {
                assert_eq!(session.remove(&field), hash.remove(&field).is_some());
            }
        }
        if rng.index(8) == 0 {
            for field in core::mem::take(hash).into_keys() {
                assert!(session.remove(&field));
            }
        }
        drop(session);
        model.drop_if_empty(place);
    }

    fn edit_set(&self, edit: &mut Edit<'_>, model: &mut Model, rng: &mut Rng) {
        let place = self.place();
        let Some(set) = model.set(place) else {
            assert!(edit.edit_set_or_new(&place.key()).is_err());
            return;
        };
        let mut session = edit.edit_set_or_new(&place.key()).unwrap();
        let count = if rng.index(8) == 0 { 150 } else { rng.index(8) };
        for _ in 0..count {
            let member = element(rng);
            if rng.index(3) > 0 {
                assert_eq!(session.add(&member), set.insert(member));
            } else {
                assert_eq!(session.remove(&member), set.remove(&member));
            }
        }
        if rng.index(8) == 0 {
            for member in core::mem::take(set) {
                assert!(session.remove(&member));
            }
        }
        drop(session);
        model.drop_if_empty(place);
    }

    fn edit_zset(&self, edit: &mut Edit<'_>, model: &mut Model, rng: &mut Rng) {
        let place = self.place();
        let Some(zset) = model.zset(place) else {
            assert!(edit.edit_zset_or_new(&place.key()).is_err());
            return;
        };
        let mut session = edit.edit_zset_or_new(&place.key()).unwrap();
        let count = if rng.index(8) == 0 { 150 } else { rng.index(8) };
        for _ in 0..count {
            let member = element(rng);
            if rng.index(3) > 0 {
                let score = score(rng);
                let added = session.add(&member, score);
                let expected = match zset.insert(member, score_bits(score)) {
                    None => Added::New,
                    Some(old) if old == score_bits(score) => Added::Same,
                    Some(_) => Added::Changed,
                };
                assert_eq!(added, expected);
            } else {
                assert_eq!(
                    session.remove(&member).map(score_bits),
                    zset.remove(&member)
                );
            }
        }
        if rng.index(8) == 0 {
            for member in core::mem::take(zset).into_keys() {
                assert!(session.remove(&member).is_some());
            }
        }
        drop(session);
        model.drop_if_empty(place);
    }
}

fn list_step(session: &mut storage::ListEdit<'_>, list: &mut VecDeque<Vec<u8>>, rng: &mut Rng) {
    let index = rng.index(list.len() + 2);
    match rng.index(7) {
        0 | 1 => {
            let (side, value) = (side(rng), bytes(rng));
            session.push(side, &value);
            match side {
                Side::Left => list.push_front(value),
                Side::Right => list.push_back(value),
            }
        }
        2 => {
            let side = side(rng);
            let popped = match side {
                Side::Left => list.pop_front(),
                Side::Right => list.pop_back(),
            };
            if rng.index(2) == 0 {
                assert_eq!(session.pop(side), popped);
            } else {
                assert_eq!(session.drop_end(side), popped.is_some());
            }
        }
        3 => {
            let value = element(rng);
            assert_eq!(session.set(index, &value), index < list.len());
            if let Some(old) = list.get_mut(index) {
                *old = value;
            }
        }
        4 => {
            let value = element(rng);
            session.insert(index, &value);
            list.insert(index.min(list.len()), value);
        }
        5 => {
            assert_eq!(session.remove(index), index < list.len());
            list.remove(index);
        }
        _ => {
            let (start, end) = (rng.index(3), list.len().saturating_sub(rng.index(3)));
            session.trim(start, end);
            list.truncate(end);
            list.drain(..start.min(list.len()));
        }
    }
}

impl Model {
    pub(crate) fn swap(&mut self, a: u8, b: u8) {
        let swapped = core::mem::take(&mut self.items).into_iter();
        let swapped = swapped.map(|(mut place, item)| {
            place.db = match place.db {
                db if db == a => b,
                db if db == b => a,
                db => db,
            };
            (place, item)
        });
        self.items = swapped.collect();
    }
}

/// Typed reads answer as the model's type says.
fn read(shard: &Shard, model: &mut Model, place: Place) {
    let key = place.key();
    let held = model.live(place).map(|(value, _)| value.clone());
    let text = shard.text(&key).map(|text| text.map(|text| text.to_vec()));
    match &held {
        None => assert_eq!(text, Ok(None)),
        Some(Plain::String(bytes)) => {
            assert_eq!(text, Ok(Some(bytes.clone())));
            let int = shard.info(&key).is_some_and(|info| info.encoding == "int");
            assert!(!int || canonical(bytes).is_some());
        }
        Some(_) => assert!(text.is_err()),
    }
    let answers = [
        (
            shard.list(&key).is_err(),
            matches!(held, None | Some(Plain::List(_))),
        ),
        (
            shard.hash(&key).is_err(),
            matches!(held, None | Some(Plain::Hash(_))),
        ),
        (
            shard.set(&key).is_err(),
            matches!(held, None | Some(Plain::Set(_))),
        ),
        (
            shard.zset(&key).is_err(),
            matches!(held, None | Some(Plain::Zset(_))),
        ),
    ];
    assert!(answers.iter().all(|(refused, fits)| refused != fits));
    assert_eq!(shard.exists(&key), held.is_some());
}
