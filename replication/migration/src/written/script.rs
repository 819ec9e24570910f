//! A transaction for a shard of a cluster, as one script: a cluster lets MULTI and EXEC touch one slot, and a script all that its server has.
//!
//! ```text
//! EVAL BATCH 1 position  expected new  n key…  { count word… }…
//!   position is not what is expected there       0: nothing was done
//!   one of the keys is not this server's (now)    its error: nothing was done
//!   else                                          the replies, one for each request; the position is the new one
//! ```
//! **Exactly once** as with WATCH: the script changes the position in the same step as the keys, and does nothing if that is not what was read on this
//! connection, or set by the script before. The position's key has a hash tag whose slot is the shard's. A slot that is on its way to another shard
//! shows at the first key that is not here (ASK), before anything is changed: so all of the keys are looked at first.
//!
//! Scripts that the feed says are called from this one. Libraries of functions, which no script may set, go before it: they are said as a whole, so
//! once more is not too often.

use std::collections::HashSet;

use protocol::answer::Answer;
use storage::Slot;

use super::{Mark, POSITION_KEY};
use crate::Slots;

/// Tags that are tried for one whose slot is a shard's: with a single slot of 16384, one in e^60 shards would find none.
const TAGS_MAX: u32 = 1_000_000;

/// See the module's head.
const BATCH: &[u8] = b"\
local p,a,n=KEYS[1],ARGV,#ARGV \
if (redis.call('get',p) or '')~=a[1] then return 0 end \
local i=3+tonumber(a[3]) \
for j=4,i do local r=redis.pcall('exists',a[j]) if type(r)=='table' then return r end end \
local out,made={},{} \
i=i+1 \
while i<=n do \
local c,r=tonumber(a[i]) \
if a[i+1]=='EVAL' then \
local s,m,k,v=a[i+2],tonumber(a[i+3]),{},{} \
if not made[s] then made[s]=loadstring('return function(KEYS,ARGV) '..s..' end')() end \
for j=1,m do k[j]=a[i+3+j] end \
for j=i+4+m,i+c do v[#v+1]=a[j] end \
local ok,e=pcall(made[s],k,v) \
if ok or type(e)=='table' then r=e else r={err=tostring(e)} end \
else r=redis.pcall(unpack(a,i+1,i+c)) end \
if r==nil then r=false end \
out[#out+1]=r \
i=i+c+1 end \
redis.call('set',p,a[2]) \
return out";

/// The key of a shard that says how far it has been written; None for one without slots.
pub fn position_key(slots: &Slots) -> Option<Vec<u8>> {
    let named = |tag: u32| [POSITION_KEY, format!(":{{{tag}}}").as_bytes()].concat();
    let mut keys = (0..TAGS_MAX).map(named);
    keys.find(|key| !slots.is_empty() && slots.contains(Slot::of(key)))
}

/// What a pen gathers for it.
pub(super) struct Script {
    /// The key of the position, and what it holds.
    position: Vec<u8>,
    known: Vec<u8>,
    keys: HashSet<Vec<u8>>,
    /// Words that have been added to the pen's bytes.
    words: usize,
    /// Requests that go before the script, and how many.
    before: Vec<u8>,
    before_count: usize,
}

impl Script {
    /// With this key of the position.
    pub(super) fn new(position: Vec<u8>) -> Script {
        Script {
            position,
            known: Vec::new(),
            keys: HashSet::new(),
            words: 0,
            before: Vec::new(),
            before_count: 0,
        }
    }

    /// A new connection, on which this was read of the position.
    pub(super) fn begin_anew(&mut self, mark: Option<&Mark>) {
        self.known = mark.map_or(Vec::new(), |mark| mark.text().into_bytes());
        self.empty();
    }

    fn empty(&mut self) {
        self.keys.clear();
        self.words = 0;
        self.before.clear();
        self.before_count = 0;
    }

    /// Adds a request, which names this key, to `out`.
    pub(super) fn add(&mut self, key: Option<&[u8]>, words: &[&[u8]], out: &mut Vec<u8>) {
        if let Some(key) = key {
            self.keys.insert(key.to_vec());
        }
        bulk(words.len().to_string().as_bytes(), out);
        words.iter().for_each(|word| bulk(word, out));
        self.words += words.len() + 1;
    }

    /// Whether something goes before the script.
    pub(super) fn has_before(&self) -> bool {
        self.before_count > 0
    }

    /// Adds one that goes before the script.
    pub(super) fn add_before(&mut self, bytes: &[u8]) {
        self.before.extend_from_slice(bytes);
        self.before_count += 1;
    }

    /// Everything as bytes, and how many replies come. Nothing is left here, and the position is taken for this one.
    pub(super) fn finish(&mut self, requests: &[u8], mark: &Mark) -> (Vec<u8>, usize) {
        let new = mark.text().into_bytes();
        let mut out = core::mem::take(&mut self.before);
        let count = self.keys.len();
        let total = 7 + count + self.words;
        out.extend_from_slice(format!("*{total}\r\n").as_bytes());
        for word in [b"EVAL", BATCH, b"1", &self.position, &self.known, &new] {
            bulk(word, &mut out);
        }
        bulk(count.to_string().as_bytes(), &mut out);
        self.keys.iter().for_each(|key| bulk(key, &mut out));
        out.extend_from_slice(requests);
        let replies = self.before_count + 1;
        self.empty();
        self.known = new;
        (out, replies)
    }
}

fn bulk(word: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// What became of it, by the replies to it and to what went before.
pub(super) enum Ran {
    /// All of it: a reply for each request, and what one that went before was refused with.
    Replies(Vec<Answer>, Option<Answer>),
    /// Nothing, as the position is another.
    Stale,
    /// Nothing, by this answer.
    Not(Option<Answer>),
}

/// See [`Ran`].
pub(super) fn ran(replies: &[Answer]) -> Ran {
    match replies.split_last() {
        Some((Answer::Array(all), before)) => {
            let refused = before.iter().find(|answer| answer.is_error());
            Ran::Replies(all.clone(), refused.cloned())
        }
        Some((Answer::Int(0), _)) => Ran::Stale,
        Some((other, _)) => Ran::Not(Some(other.clone())),
        None => Ran::Not(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_in_a_slot_of_the_shard() {
        for text in ["0-5460", "7", "16383", "5461-10922,16000"] {
            let slots = Slots::of(text).unwrap();
            let key = position_key(&slots).unwrap();
            assert!(slots.contains(Slot::of(&key)), "{text}");
            assert!(key.starts_with(POSITION_KEY));
            assert_eq!(
                position_key(&slots),
                Some(key),
                "it is the same the next time"
            );
        }
        assert_eq!(position_key(&Slots::default()), None);
    }
}
