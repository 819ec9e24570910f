import pytest
import redis

from conftest import pairs, popped


def test_lists(r, k):
    assert r.rpush(k("l"), "b", "c") == 2
    assert r.lpush(k("l"), "a") == 3
    assert r.lpushx(k("none"), "x") == 0 and r.rpushx(k("l"), "d") == 4
    assert r.lrange(k("l"), 0, -1) == [b"a", b"b", b"c", b"d"]
    assert r.llen(k("l")) == 4 and r.lindex(k("l"), -1) == b"d"
    assert r.linsert(k("l"), "BEFORE", "c", "x") == 5
    assert r.lset(k("l"), 0, "A")
    assert r.lrem(k("l"), 0, "x") == 1
    assert r.lpos(k("l"), "c") == 2
    assert r.ltrim(k("l"), 0, 2)
    assert r.lpop(k("l")) == b"A" and r.rpop(k("l")) == b"c"
    assert r.lpop(k("none")) is None
    r.rpush(k("l"), *map(str, range(1000)))
    assert r.llen(k("l")) == 1001
    assert r.lpop(k("l"), 3) == [b"b", b"0", b"1"]
    assert r.lmove(k("l"), k("m"), "RIGHT", "LEFT") == b"999"
    assert r.rpoplpush(k("l"), k("m")) == b"998"
    assert r.lmpop(2, k("none"), k("m"), direction="LEFT", count=5) == [k("m").encode(), [b"998", b"999"]]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.sadd(k("l"), "x")


def test_hashes(r, k):
    assert r.hset(k("h"), mapping={"f": "1", "g": "two", "e": ""}) == 3
    assert r.hset(k("h"), "f", "1") == 0
    assert r.hsetnx(k("h"), "f", "9") in (0, False)
    assert r.hget(k("h"), "g") == b"two" and r.hget(k("h"), "none") is None
    assert r.hmget(k("h"), "f", "none", "e") == [b"1", None, b""]
    assert r.hgetall(k("h")) == {b"f": b"1", b"g": b"two", b"e": b""}
    assert r.hlen(k("h")) == 3 and r.hstrlen(k("h"), "g") == 3
    assert r.hexists(k("h"), "e") and not r.hexists(k("h"), "x")
    assert sorted(r.hkeys(k("h"))) == [b"e", b"f", b"g"] and sorted(r.hvals(k("h"))) == [b"", b"1", b"two"]
    assert r.hincrby(k("h"), "f", 4) == 5 and r.hincrbyfloat(k("h"), "f", 0.5) == 5.5
    assert r.hdel(k("h"), "e", "none") == 1
    r.hset(k("big"), mapping={f"f{i}": i for i in range(1000)})
    assert dict(r.hscan_iter(k("big"), count=50)) == {f"f{i}".encode(): str(i).encode() for i in range(1000)}
    assert r.hrandfield(k("big")).startswith(b"f")
    assert len(set(r.hrandfield(k("big"), 10))) == 10 and len(r.hrandfield(k("big"), -10)) == 10


def test_sets(r, k):
    assert r.sadd(k("a"), 1, 2, 3, "x") == 4
    assert r.sadd(k("a"), 1) == 0
    assert r.sadd(k("b"), 2, 3, 4) == 3
    assert r.scard(k("a")) == 4 and r.smembers(k("a")) == {b"1", b"2", b"3", b"x"}
    assert r.sismember(k("a"), 1) and not r.sismember(k("a"), 9)
    assert r.smismember(k("a"), 1, 9) == [1, 0]
    assert r.sinter(k("a"), k("b")) == {b"2", b"3"}
    assert r.sunion(k("a"), k("b")) == {b"1", b"2", b"3", b"4", b"x"}
    assert r.sdiff(k("a"), k("b")) == {b"1", b"x"}
    assert r.sintercard(2, [k("a"), k("b")], limit=1) == 1
    assert r.sinterstore(k("i"), k("a"), k("b")) == 2
    assert r.sunionstore(k("u"), k("a"), k("b")) == 5
    assert r.sdiffstore(k("d"), k("a"), k("b")) == 2
    assert r.smove(k("a"), k("b"), "x") and r.sismember(k("b"), "x")
    assert r.srem(k("a"), 1, 9) == 1
    assert r.srandmember(k("a")) in {b"2", b"3"} and len(r.srandmember(k("a"), -5)) == 5
    assert r.spop(k("a")) in {b"2", b"3"}
    r.sadd(k("big"), *range(2000))
    assert {int(member) for member in r.sscan_iter(k("big"), count=100)} == set(range(2000))
    assert len(r.spop(k("big"), 100)) == 100 and r.scard(k("big")) == 1900


def test_sorted_sets(r, k):
    assert r.zadd(k("z"), {"a": 1, "b": 2, "c": 3}) == 3
    assert r.zadd(k("z"), {"a": 5}, nx=True) == 0 and r.zadd(k("z"), {"a": 1.5}, xx=True, ch=True) == 1
    assert r.zadd(k("z"), {"a": 1}, incr=True) == 2.5
    assert r.zscore(k("z"), "a") == 2.5 and r.zscore(k("z"), "none") is None
    assert r.zmscore(k("z"), ["a", "none"]) == [2.5, None]
    assert r.zincrby(k("z"), 10, "b") == 12
    assert r.zcard(k("z")) == 3 and r.zcount(k("z"), "(2.5", "+inf") == 2
    assert r.zrange(k("z"), 0, -1) == [b"a", b"c", b"b"]
    assert pairs(r.zrange(k("z"), 0, -1, withscores=True)) == [(b"a", 2.5), (b"c", 3), (b"b", 12)]
    assert pairs(r.zrevrange(k("z"), 0, 0, withscores=True)) == [(b"b", 12)]
    assert r.zrangebyscore(k("z"), 2, 3) == [b"a", b"c"]
    assert r.zrevrangebyscore(k("z"), "+inf", "-inf", start=1, num=1) == [b"c"]
    assert r.zrange(k("z"), "+inf", "-inf", byscore=True, desc=True, offset=0, num=1) == [b"b"]
    assert r.zrank(k("z"), "c") == 1 and r.zrevrank(k("z"), "c") == 1 and r.zrank(k("z"), "none") is None
    assert r.zrangestore(k("copy"), k("z"), 0, 1) == 2
    r.zadd(k("lex"), {letter: 0 for letter in "abcdef"})
    assert r.zrangebylex(k("lex"), "[b", "(e") == [b"b", b"c", b"d"]
    assert r.zrevrangebylex(k("lex"), "+", "[e") == [b"f", b"e"]
    assert r.zlexcount(k("lex"), "-", "+") == 6
    assert r.zremrangebylex(k("lex"), "-", "(c") == 2
    assert pairs(r.zunion([k("z"), k("copy")], aggregate="MAX", withscores=True))[0] == (b"a", 2.5)
    assert r.zinter([k("z"), k("copy")]) == [b"a", b"c"] and r.zdiff([k("z"), k("copy")]) == [b"b"]
    assert r.zunionstore(k("u"), {k("z"): 2, k("copy"): 1}) == 3 and r.zscore(k("u"), "a") == 7.5
    assert r.zinterstore(k("i"), [k("z"), k("copy")]) == 2 and r.zdiffstore(k("d"), [k("z"), k("copy")]) == 1
    assert r.zintercard(2, [k("z"), k("copy")]) == 2
    assert popped(r.zpopmin(k("z"))) == [(b"a", 2.5)]
    assert r.zrem(k("z"), "c") == 1
    r.zadd(k("big"), {f"m{i}": i / 4 for i in range(3000)})
    assert r.zrank(k("big"), "m1500") == 1500
    assert r.zremrangebyrank(k("big"), 0, 499) == 500 and r.zremrangebyscore(k("big"), 125, 250) == 501
    assert len(dict(r.zscan_iter(k("big"), count=100))) == 1999
    assert r.zmpop(1, [k("big")], max=True, count=2)[0] == k("big").encode()
    assert len(r.zrandmember(k("big"), 7)) == 7


def test_infinite_scores(r, k):
    r.zadd(k("z"), {"a": float("inf"), "b": float("-inf"), "c": 1e300, "d": 0.1})
    assert pairs(r.zrange(k("z"), 0, -1, withscores=True)) == [
        (b"b", float("-inf")), (b"d", 0.1), (b"c", 1e300), (b"a", float("inf"))]
    with pytest.raises(redis.ResponseError, match="NaN"):
        r.zincrby(k("z"), float("-inf"), "a")
