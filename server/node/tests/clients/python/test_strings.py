import time

import pytest
import redis


def test_set_and_its_options(r, k):
    assert r.set(k("a"), "1")
    assert r.get(k("a")) == b"1"
    assert r.get(k("none")) is None
    assert r.set(k("a"), "2", nx=True) is None
    assert r.set(k("b"), "2", xx=True) is None
    assert r.set(k("a"), "3", get=True) == b"1"
    assert r.set(k("a"), "4", ex=100)
    assert 0 < r.ttl(k("a")) <= 100
    assert r.set(k("a"), "5", keepttl=True)
    assert r.ttl(k("a")) > 0
    assert r.setnx(k("a"), "x") is False
    assert r.setex(k("c"), 50, "v") and r.psetex(k("d"), 50_000, "v")
    assert r.getset(k("c"), "w") == b"v"
    assert r.ttl(k("c")) == -1
    assert r.getex(k("d"), persist=True) == b"v"
    assert r.pttl(k("d")) == -1
    assert r.getdel(k("d")) == b"v"
    assert r.exists(k("d")) == 0


def test_many_keys_at_once(r, k):
    names = {k(str(i)): str(i) for i in range(200)}
    assert r.mset(names)
    assert r.mget(list(names)) == [value.encode() for value in names.values()]
    assert r.msetnx({k("new"): "1", k("0"): "x"}) is False
    assert r.get(k("new")) is None
    assert r.msetnx({k("new"): "1", k("new2"): "x"}) is True
    assert r.exists(*names) == 200
    assert r.touch(*names) == 200
    assert r.unlink(*list(names)[:100]) == 100
    assert r.delete(*names) == 100


def test_counters(r, k):
    assert r.incr(k("n")) == 1
    assert r.incrby(k("n"), 41) == 42
    assert r.decr(k("n")) == 41
    assert r.decrby(k("n"), 40) == 1
    assert r.incrbyfloat(k("f"), 10.5) == 10.5
    assert r.incrbyfloat(k("f"), -0.25) == 10.25
    r.set(k("max"), 2**63 - 1)
    with pytest.raises(redis.ResponseError, match="overflow"):
        r.incr(k("max"))
    r.set(k("text"), "abc")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        r.incr(k("text"))


def test_parts_of_strings(r, k):
    assert r.append(k("s"), "Hello ") == 6
    assert r.append(k("s"), "World") == 11
    assert r.strlen(k("s")) == 11
    assert r.getrange(k("s"), -5, -1) == b"World"
    assert r.setrange(k("s"), 6, "Redis") == 11
    assert r.get(k("s")) == b"Hello Redis"
    assert r.setrange(k("gap"), 3, "x") == 4
    assert r.get(k("gap")) == b"\0\0\0x"
    r.mset({k("l1"): "ohmytext", k("l2"): "mynewtext"})
    assert r.lcs(k("l1"), k("l2")) == b"mytext"
    assert r.lcs(k("l1"), k("l2"), len=True) == 6


def test_bitmaps(r, k):
    assert r.setbit(k("b"), 7, 1) == 0
    assert r.setbit(k("b"), 7, 0) == 1
    assert r.setbit(k("b"), 100, 1) == 0
    assert r.getbit(k("b"), 100) == 1
    assert r.bitcount(k("b")) == 1
    r.set(k("x"), b"\xff\xf0\x00")
    r.set(k("y"), b"\x0f\x0f\x0f")
    assert r.bitcount(k("x"), 0, 0) == 8
    assert r.bitcount(k("x"), 5, 10, "BIT") == 6
    assert r.bitpos(k("x"), 0) == 12
    assert r.bitop("AND", k("and"), k("x"), k("y")) == 3
    assert r.get(k("and")) == b"\x0f\x00\x00"
    assert r.bitop("NOT", k("not"), k("x")) == 3
    assert r.get(k("not")) == b"\x00\x0f\xff"
    field = r.bitfield(k("bf"), default_overflow="SAT")
    assert field.set("u8", 0, 250).incrby("u8", 0, 10).get("u8", 0).execute() == [0, 255, 255]
    assert r.bitfield_ro(k("bf"), "u8", 0) == [255]


def test_deadlines(r, k):
    r.mset({k("a"): "1", k("b"): "2"})
    assert r.ttl(k("a")) == -1 and r.ttl(k("none")) == -2
    assert r.expire(k("a"), 100) and not r.expire(k("none"), 100)
    assert r.expire(k("a"), 50, gt=True) == 0 and r.expire(k("a"), 50, lt=True) == 1
    at = int(time.time()) + 1000
    assert r.expireat(k("a"), at) and r.expiretime(k("a")) == at
    assert r.pexpireat(k("a"), at * 1000 + 5) and r.pexpiretime(k("a")) == at * 1000 + 5
    assert r.persist(k("a")) and not r.persist(k("a"))
    assert r.pexpire(k("b"), 30)
    time.sleep(0.08)
    assert r.get(k("b")) is None and r.exists(k("b")) == 0


def test_keys_of_any_type(r, k):
    r.set(k("s"), "v")
    r.rpush(k("l"), *"cab")
    assert r.type(k("s")) == b"string" and r.type(k("l")) == b"list" and r.type(k("none")) == b"none"
    assert r.rename(k("s"), k("t")) and r.get(k("t")) == b"v"
    with pytest.raises(redis.ResponseError, match="no such key"):
        r.rename(k("s"), k("t"))
    r.set(k("u"), "w")
    assert not r.renamenx(k("t"), k("u"))
    assert r.copy(k("l"), k("l2")) and r.lrange(k("l2"), 0, -1) == [b"c", b"a", b"b"]
    assert not r.copy(k("t"), k("u")) and r.copy(k("t"), k("u"), replace=True)
    assert r.sort(k("l"), alpha=True) == [b"a", b"b", b"c"]
    assert r.sort(k("l"), alpha=True, desc=True, start=0, num=2) == [b"c", b"b"]
    assert r.sort(k("l"), alpha=True, store=k("sorted")) == 3
    assert r.object("encoding", k("u")) in (b"embstr", "embstr")
    assert r.object("refcount", k("u")) == 1
    assert r.memory_usage(k("u")) > 0
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.get(k("l"))


def test_scan_sees_every_key(r, k):
    names = {k(str(i)) for i in range(500)}
    for name in names:
        r.set(name, "x")
    found = {key.decode() for key in r.scan_iter(match="*" + k("*").replace("{", "*").replace("}", "*"), count=100)}
    assert found & names == names
    # A cluster's client asks one node unless told; keys of one hash tag live on one of them.
    everywhere = {"target_nodes": "primaries"} if isinstance(r, redis.RedisCluster) else {}
    keys, sizes = r.keys("*", **everywhere), r.dbsize(**everywhere)
    if isinstance(keys, dict):
        keys = [key for part in keys.values() for key in part]
    assert {key.decode() for key in keys} >= names
    assert (sum(sizes.values()) if isinstance(sizes, dict) else sizes) >= 500
    assert r.randomkey() is not None or everywhere
