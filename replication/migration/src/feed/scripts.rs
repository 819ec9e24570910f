//! Scripts for the effects that no command of Redis has: an index in a list, a group that may be there, slots.
//!
//! Each changes the key that it names (the last one: whatever its slots hold) exactly as the effect says, for any content, and asks no
//! clock, but for [`RESTORE_KEEPING_EARLY`]. Those that are not for Redis 6.0 run on 6.2; [`RESTORE_KEEPING`] on 7.0.

/// Lua: `has(list, element)`, by LPOS; and for Redis before 6.0.6, which has none.
macro_rules! has {
    (lpos) => {
        "local has=function(k,m) return redis.call('lpos',k,m) end "
    };
    (early) => {
        "local has=function(k,m) \
for s=0,redis.call('llen',k)-1,500 do \
for _,v in ipairs(redis.call('lrange',k,s,s+499)) do if v==m then return true end end end end "
    };
}

/// KEYS: list. ARGV: index, element. The element is put before that index.
///
/// (The element there is replaced by a marker that the list has nowhere else, so that LINSERT finds it.)
macro_rules! list_insert {
    ($has:ident) => {
        concat!(
            has!($has),
            "local k,i,v=KEYS[1],tonumber(ARGV[1]),ARGV[2] \
local old=redis.call('lindex',k,i) \
if not old then return redis.call('rpush',k,v) end \
local m,n='\\0',0 \
while has(k,m) do n=n+1 m='\\0'..n end \
redis.call('lset',k,i,m) \
redis.call('linsert',k,'before',m,v) \
return redis.call('lset',k,i+1,old)"
        )
        .as_bytes()
    };
}

/// KEYS: list. ARGV: index. The element there is removed.
macro_rules! list_remove {
    ($has:ident) => {
        concat!(
            has!($has),
            "local k,m,n=KEYS[1],'\\0',0 \
while has(k,m) do n=n+1 m='\\0'..n end \
redis.call('lset',k,ARGV[1],m) \
return redis.call('lrem',k,1,m)"
        )
        .as_bytes()
    };
}

/// See `list_insert`.
pub(super) const LIST_INSERT: &[u8] = list_insert!(lpos);
/// The same for Redis 6.0.
pub(super) const LIST_INSERT_EARLY: &[u8] = list_insert!(early);
/// See `list_remove`.
pub(super) const LIST_REMOVE: &[u8] = list_remove!(lpos);
/// The same for Redis 6.0.
pub(super) const LIST_REMOVE_EARLY: &[u8] = list_remove!(early);

/// KEYS: string. ARGV: length. The string has so many bytes at least, zeros at its end.
pub(super) const STRING_EXTEND: &[u8] = b"\
if redis.call('strlen',KEYS[1])<tonumber(ARGV[1]) then \
redis.call('setrange',KEYS[1],ARGV[1]-1,'\\0') end";

/// KEYS: key. ARGV: payload of DUMP. The value is this one, the deadline stays.
pub(super) const RESTORE_KEEPING: &[u8] = b"\
local at=redis.call('pexpiretime',KEYS[1]) \
if at<0 then at=0 end \
return redis.call('restore',KEYS[1],at,ARGV[1],'replace','absttl')";

/// The same for Redis 6, which tells only how much time is left. (None for a deadline of this very moment, and RESTORE takes 0 for no deadline.)
pub(super) const RESTORE_KEEPING_EARLY: &[u8] = b"\
local left=redis.call('pttl',KEYS[1]) \
if left==0 then left=1 end \
if left<0 then left=0 end \
return redis.call('restore',KEYS[1],left,ARGV[1],'replace')";

/// KEYS: stream. ARGV: group, id, words of ENTRIESREAD. The group is there and has read so far.
pub(super) const PUT_GROUP: &[u8] = b"\
local k,g=KEYS[1],ARGV[1] \
for _,i in ipairs(redis.call('xinfo','groups',k)) do \
if i[2]==g then return redis.call('xgroup','setid',k,g,unpack(ARGV,2)) end end \
return redis.call('xgroup','create',k,g,unpack(ARGV,2))";

/// KEYS: stream. ARGV: id. Entries up to it are removed; for Redis 6.0, which has no XTRIM MINID.
pub(super) const TRIM_THROUGH_EARLY: &[u8] = b"\
local k=KEYS[1] \
repeat local n=0 \
for _,e in ipairs(redis.call('xrange',k,'-',ARGV[1],'count',500)) do \
redis.call('xdel',k,e[1]) n=n+1 end \
until n<500";

/// ARGV: first slot, last slot. Keys of the selected database with these slots are removed.
pub(super) const FLUSH_SLOTS: &[u8] = b"\
local first,last,t=tonumber(ARGV[1]),tonumber(ARGV[2]),{} \
for i=0,255 do local c=bit.lshift(i,8) \
for _=1,8 do c=bit.lshift(c,1) if c>=0x10000 then c=bit.bxor(c,0x11021) end end t[i]=c end \
local function slot(k) \
local s=k:find('{',1,true) \
if s then local e=k:find('}',s+1,true) if e and e>s+1 then k=k:sub(s+1,e-1) end end \
local c=0 \
for i=1,#k do c=bit.bxor(bit.band(bit.lshift(c,8),0xffff),\
t[bit.band(bit.bxor(bit.rshift(c,8),k:byte(i)),0xff)]) end \
return bit.band(c,16383) end \
if redis.replicate_commands then redis.replicate_commands() end \
local n='0' \
repeat local r=redis.call('scan',n,'count',1000) n=r[1] \
for _,k in ipairs(r[2]) do local s=slot(k) \
if s>=first and s<=last then redis.call('unlink',k) end end \
until n=='0'";
