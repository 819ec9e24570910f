//! Keyspace events of every family, request by request, as Redis 7.2 names and orders them: tests only.

use storage::Key;

use crate::testing::Bench;

fn table(lines: &str) {
    Bench::new().event_table(lines);
}

#[test]
fn events_of_strings() {
    table(
        "
        APPEND s a -> new s, append s
        APPEND s \"\" -> append s
        SETRANGE s 2 bc -> setrange s
        SETRANGE s 9 \"\" ->
        SETRANGE no 0 \"\" ->
        SETRANGE r 1 x -> new r, setrange r
        INCR n -> new n, incrby n
        DECRBY n 3 -> incrby n
        INCRBYFLOAT n 0.5 -> incrbyfloat n
        INCRBYFLOAT f 0.5 -> new f, incrbyfloat f
        INCR s ->
        GETDEL s -> del s
        GETDEL s -> keymiss s
        SET s v -> new s, set s
        SET s v NX ->
        SET s v XX EX 100 -> set s, expire s
        SET s w KEEPTTL -> set s
        SET s 1 GET EX 9 -> set s, expire s
        SET s2 1 GET -> keymiss s2, new s2, set s2
        SET s2 1 NX GET ->
        SET past v EXAT 1 -> new past, set past, expire past, expired past
        SETEX e 9 v -> new e, set e, expire e
        PSETEX e 9000 v -> set e, expire e
        SETNX e v ->
        SETNX e2 v -> new e2, set e2
        GETSET g v -> keymiss g, new g, set g
        GETSET g w -> set g
        MSET g 1 h 2 h 3 -> set g, new h, set h, set h
        MSETNX h 1 i 1 ->
        MSETNX i 1 i 2 -> new i, set i, set i
        MSETEX 2 g 1 j 2 -> set g, new j, set j
        MSETEX 2 g 1 j 2 NX EX 9 ->
        MSETEX 2 g 1 j 2 XX EX 9 -> set g, expire g, set j, expire j
        SET g 5 IFEQ x ->
        SET g 5 IFEQ 1 EX 9 -> set g, expire g
        DIGEST none -> keymiss none
        DELEX j IFEQ x ->
        DELEX j IFEQ 2 -> del j
        SET j 1; DELEX j -> del j
        SET j 1; DELIFEQ j 1 -> del j
        SET g 1 ->  set g
        GETEX g ->
        GETEX g PERSIST ->
        GETEX g EX 100 -> expire g
        GETEX g PERSIST -> persist g
        GETEX g PXAT 1 -> del g
        GETEX g EX 10 -> keymiss g
        GET g -> keymiss g
        MGET g h i2 -> keymiss g, keymiss i2
        STRLEN none -> keymiss none
        GETRANGE none 0 1 -> keymiss none
        LCS none h -> keymiss none
        ",
    );
}

#[test]
fn events_of_bitmaps() {
    table(
        "
        SETBIT b 9 0 -> new b, setbit b
        SETBIT b 9 0 ->
        SETBIT b 9 1 -> setbit b
        SETBIT b 8 0 ->
        SETBIT b 16 0 -> setbit b
        BITFIELD none GET u8 0 -> keymiss none
        BITFIELD f SET u8 0 0 -> new f, setbit f
        BITFIELD f SET u8 0 0 ->
        BITFIELD f SET u8 0 7 INCRBY u8 0 1 -> setbit f
        BITFIELD f SET u8 8 0 -> setbit f
        BITFIELD f OVERFLOW FAIL INCRBY u8 0 255 ->
        BITFIELD f OVERFLOW FAIL INCRBY u8 100 256 ->
        BITFIELD f GET u8 0 SET u8 0 8 ->
        BITOP AND d none b -> keymiss none, new d, set d
        BITOP AND d none none2 -> keymiss none, keymiss none2, del d
        BITOP OR d none none2 -> keymiss none, keymiss none2
        BITOP NOT d b -> new d, set d
        BITOP OR d b f -> set d
        BITCOUNT none -> keymiss none
        BITPOS none 1 -> keymiss none
        GETBIT none 0 -> keymiss none
        ",
    );
}

#[test]
fn events_of_keys() {
    table(
        "
        SET a 1; SET b 2; COPY a c -> new c, copy_to c
        COPY a b ->
        COPY a b REPLACE -> new b, copy_to b
        COPY a a2 DB 1 -> new a2@1, copy_to a2@1
        COPY none c -> keymiss none
        MOVE none 1 ->
        MOVE a 1 -> new a@1, move_from a, move_to a@1
        MOVE c 1 -> new c@1, move_from c, move_to c@1
        SET c 1; MOVE c 1 ->
        EXPIRE a 100 ->
        EXPIRE b 100 -> expire b
        EXPIRE b 100 NX ->
        PEXPIRE b 1000 XX -> expire b
        EXPIREAT b 1 -> del b
        PEXPIREAT none 99999999999999 ->
        PERSIST b ->
        SET b 1 EX 100; PERSIST b -> persist b
        PERSIST b ->
        DEL none b b -> del b
        MSET x 1 y 2; UNLINK x y -> del x, del y
        SET a 1; RENAME a b -> new b, rename_from a, rename_to b
        RENAME b b ->
        SET c 1; RENAMENX b c ->
        RENAMENX b d -> new d, rename_from b, rename_to d
        RENAME d c -> new c, rename_from d, rename_to c
        RENAME none c ->
        RPUSH l 2 1; SORT l STORE s -> new s, sortstore s
        SORT l STORE s -> sortstore s
        SORT none STORE s -> keymiss none, del s
        SORT none STORE s -> keymiss none
        SORT none -> keymiss none
        EXISTS none c -> keymiss none
        TOUCH none c -> keymiss none
        TYPE none -> keymiss none
        TTL none -> keymiss none
        PTTL none -> keymiss none
        EXPIRETIME none -> keymiss none
        OBJECT ENCODING none ->
        DBSIZE ->
        FLUSHDB ->
        SWAPDB 0 1 ->
        FLUSHALL ->
        ",
    );
}

#[test]
fn events_of_lists() {
    table(
        "
        LPUSH l a b -> new l, lpush l
        RPUSH l c -> rpush l
        LPUSHX l d -> lpush l
        RPUSHX none d ->
        LINSERT l BEFORE c x -> linsert l
        LINSERT l BEFORE nope x ->
        LINSERT none BEFORE nope x ->
        LSET l 0 z -> lset l
        LSET l 99 z ->
        LSET none 0 z ->
        LREM l 0 nope ->
        LREM l 0 z -> lrem l
        LTRIM l 0 -1 -> ltrim l
        LTRIM l 0 2 -> ltrim l
        LTRIM none 0 1 ->
        LPOP l -> lpop l
        LPOP l 0 ->
        RPOP l 1 -> rpop l
        LPOP none ->
        LPOP l 5 -> lpop l, del l
        RPUSH l a; LREM l 0 a -> lrem l, del l
        RPUSH l a; LTRIM l 1 0 -> ltrim l, del l
        RPUSH l a; RPOP l -> rpop l, del l
        RPUSH l a b; LMOVE l l LEFT RIGHT -> rpush l, lpop l
        LMOVE l m LEFT LEFT -> new m, lpush m, lpop l
        RPOPLPUSH l m -> lpush m, rpop l, del l
        RPOPLPUSH l m ->
        RPOPLPUSH none m ->
        LMPOP 2 l m RIGHT -> rpop m
        LMPOP 2 l m LEFT COUNT 9 -> lpop m, del m
        LMPOP 2 l m LEFT COUNT 9 ->
        RPUSH one a; LMOVE one one LEFT LEFT -> lpush one, lpop one
        LPOS none 1 -> keymiss none
        LLEN none -> keymiss none
        ",
    );
}

#[test]
fn events_of_hashes() {
    table(
        "
        HSET h a 1 b 2 -> new h, hset h
        HSET h a 1 -> hset h
        HMSET h a 2 -> hset h
        HSETNX h a 2 ->
        HSETNX h c 2 -> hset h
        HINCRBY h a 2 -> hincrby h
        HINCRBY i a 2 -> new i, hincrby i
        HINCRBYFLOAT i a 2 -> hincrbyfloat i
        HSET h t text; HINCRBY h t 1 ->
        HDEL h none ->
        HDEL h a b none -> hdel h
        HDEL none a ->
        HDEL i a -> hdel i, del i
        HGET none a -> keymiss none
        HSET h a 1; HDEL h a c t -> hdel h, del h
        HSCAN none 0 -> keymiss none
        HRANDFIELD none -> keymiss none
        ",
    );
}

#[test]
fn events_of_sets() {
    table(
        "
        SADD s a b c -> new s, sadd s
        SADD s a ->
        SREM s none ->
        SREM s a -> srem s
        SREM none a ->
        SADD s a; SMOVE s t a -> srem s, new t, sadd t
        SMOVE s t none ->
        SMOVE s s b ->
        SMOVE none t b ->
        SADD t b; SMOVE s t b -> srem s
        SMOVE s t c -> srem s, del s, sadd t
        SPOP none ->
        SPOP none 1 ->
        SPOP t 0 ->
        SPOP t -> spop t
        SPOP t 1 -> spop t
        SPOP t 9 -> spop t, del t
        SADD s a; SPOP s -> spop s, del s
        SADD s a b c d; SADD t a b; SPOP s 3 -> spop s
        SADD s a b c d; SINTERSTORE d s t -> new d, sinterstore d
        SUNIONSTORE d s t -> sunionstore d
        SDIFFSTORE d s t -> sdiffstore d
        SDIFFSTORE d s s -> del d
        SDIFFSTORE d s s ->
        SINTERSTORE d s none -> keymiss none
        SUNIONSTORE d none s -> keymiss none, new d, sunionstore d
        SINTERSTORE d s none -> keymiss none, del d
        SINTER none s -> keymiss none
        SMISMEMBER none a -> keymiss none
        SINTERCARD 2 s none -> keymiss none
        ",
    );
}

#[test]
fn events_of_sorted_sets() {
    table(
        "
        ZADD z 1 a 2 b -> new z, zadd z
        ZADD z 1 a ->
        ZADD z 2 a -> zadd z
        ZADD z XX 2 c ->
        ZADD z GT CH 1 a ->
        ZADD none XX 1 a ->
        ZADD z INCR 1 a -> zincr z
        ZADD z XX INCR 1 q ->
        ZINCRBY z 0 a ->
        ZINCRBY z 1 a -> zincr z
        ZINCRBY y 1 a -> new y, zincr y
        ZREM z none ->
        ZREM none a ->
        ZREM y a b -> zrem y, del y
        ZADD z 1 a 2 b 3 c 4 d; ZREMRANGEBYRANK z 0 0 -> zremrangebyrank z
        ZREMRANGEBYRANK z 9 10 ->
        ZREMRANGEBYSCORE z 2 2 -> zremrangebyscore z
        ZREMRANGEBYLEX z [c [c -> zremrangebylex z
        ZREMRANGEBYSCORE none 2 2 ->
        ZREMRANGEBYSCORE z -inf +inf -> zremrangebyscore z, del z
        ZADD z 1 a 2 b 3 c 4 d; ZPOPMIN z -> zpopmin z
        ZPOPMAX z 1 -> zpopmax z
        ZPOPMAX z 0 ->
        ZPOPMIN none ->
        ZMPOP 2 none z MIN -> zpopmin z
        ZMPOP 1 z MAX COUNT 9 -> zpopmax z, del z
        ZMPOP 1 z MAX COUNT 9 ->
        ZADD z 1 a 2 b; ZPOPMIN z 9 -> zpopmin z, del z
        ZADD z 1 a 2 b; ZADD y 1 a; ZUNIONSTORE d 2 z y -> new d, zunionstore d
        ZINTERSTORE d 2 z y -> zinterstore d
        ZDIFFSTORE d 2 z y -> zdiffstore d
        ZDIFFSTORE d 2 z z -> del d
        ZDIFFSTORE d 2 none none2 -> keymiss none, keymiss none2
        ZUNIONSTORE d 1 none -> keymiss none
        ZRANGESTORE d z 0 0 -> new d, zrangestore d
        ZRANGESTORE d z 0 1 -> zrangestore d
        ZRANGESTORE d none 0 1 -> keymiss none, del d
        ZRANGESTORE d none 0 1 -> keymiss none
        ZRANGESTORE e z 5 6 ->
        ZUNION 2 z none -> keymiss none
        ZINTER 2 none z -> keymiss none
        ZRANGE none 0 1 -> keymiss none
        ZSCORE none a -> keymiss none
        ZMSCORE none a -> keymiss none
        ZCARD none -> keymiss none
        ",
    );
}

#[test]
fn misses_of_streams() {
    table(
        "
        XLEN none -> keymiss none
        XRANGE none - + -> keymiss none
        XPENDING none g -> keymiss none
        XACK none g 1 -> keymiss none
        XCLAIM none g c 0 1 -> keymiss none
        XAUTOCLAIM none g c 0 0 -> keymiss none
        XAUTOCLAIM none g c abc 0 -> keymiss none
        XREAD STREAMS none 0 -> keymiss none, keymiss none
        XREADGROUP GROUP g c STREAMS none > -> keymiss none
        XDEL none 1 ->
        XTRIM none MAXLEN 1 ->
        XADD s 1 f v -> new s, xadd s
        XREAD STREAMS s 0 ->
        XACK s none 1 ->
        ",
    );
}

#[test]
fn a_key_expires_before_it_is_missed_or_made_anew() {
    let mut bench = Bench::new();
    for (request, events) in [
        ("GET a", "expired a, keymiss a"),
        ("MGET b a b", "keymiss b, expired a, keymiss a, keymiss b"),
        ("EXISTS a", "expired a, keymiss a"),
        ("SET a 2", "expired a, new a, set a"),
        ("SET a 2 GET", "expired a, keymiss a, new a, set a"),
        ("GETDEL a", "expired a, keymiss a"),
        ("DEL a", "expired a"),
        ("RPUSH a x", "expired a, new a, rpush a"),
    ] {
        bench.run("SET a 1 PX 5");
        bench.pass_ms(6);
        bench.run(request);
        assert_eq!(bench.events(), events, "{request}");
        bench.run("DEL a");
    }
}

#[test]
fn only_wanted_classes_are_kept() {
    let mut bench = Bench::new();
    bench.shard.set_events(storage::EventClass::List as u16);
    bench.event_table("SET a 1 ->\nRPUSH b 1 -> rpush b\nDEL b ->");
    bench.shard.set_events(0);
    bench.event_table("RPUSH b 1 ->\nGET none ->");
    assert!(!bench.shard.has_events());
    assert!(bench.shard.exists(&Key::new(0, b"b")));
}
