"""Blocking commands, publish and subscribe, and client-side caching, as redis-py uses them."""

import threading
import time

import pytest
import redis
from redis.cache import CacheConfig

from conftest import HOST, PORT, connect


def in_background(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


def until_blocked(client, count):
    """Waits until so many clients wait: by the server's own word, not by a guess of time."""
    for _ in range(500):
        if client.info("clients")["blocked_clients"] >= count:
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_a_queue_and_its_workers(plain, name):
    queue, done = name("queue"), name("done")
    jobs = 500

    def work():
        mine = connect("plain-resp3")
        count = 0
        while True:
            item = mine.brpoplpush(queue, done, timeout=10)
            if item is None or item == b"end":
                mine.close()
                return count
            count += 1

    workers = [in_background(work) for _ in range(4)]
    for job in range(jobs):
        plain.lpush(queue, job)
    for _ in workers:
        plain.lpush(queue, "end")
    for thread, _ in workers:
        thread.join(timeout=30)
    assert sum(results[0] for _, results in workers) == jobs
    items = [item for item in plain.lrange(done, 0, -1) if item != b"end"]
    assert sorted(map(int, items)) == list(range(jobs))
    assert plain.exists(queue) == 0


def test_keys_of_many_slots_and_timeouts(plain, name):
    keys = [name(str(n)) for n in range(20)]
    mine = connect("plain-resp3")
    thread, results = in_background(lambda: mine.blpop(keys, timeout=20))
    until_blocked(plain, 1)
    plain.rpush(keys[13], "x")
    thread.join(timeout=10)
    assert [bytes(part) for part in results[0]] == [keys[13].encode(), b"x"]
    begun = time.monotonic()
    assert mine.blpop(keys, timeout=0.2) is None
    assert time.monotonic() - begun >= 0.19
    thread, results = in_background(lambda: mine.bzpopmin(keys, timeout=20))
    until_blocked(plain, 1)
    plain.zadd(keys[7], {"m": 2.5})
    thread.join(timeout=10)
    key, member, score = results[0]
    assert (bytes(key), bytes(member), float(score)) == (keys[7].encode(), b"m", 2.5)
    mine.close()


def test_channels_and_patterns(plain, name):
    channel = name("channel")
    listener = plain.pubsub()
    listener.subscribe(channel)
    listener.psubscribe(name("*"))

    def next_message():
        for _ in range(100):
            message = listener.get_message(ignore_subscribe_messages=True, timeout=0.1)
            if message:
                return message
        raise AssertionError("no message")

    while not (listener.subscribed and plain.pubsub_numsub(channel)[0][1] == 1 and plain.pubsub_numpat() > 0):
        time.sleep(0.01)
    assert plain.publish(channel, "hello") == 2
    kinds = sorted(next_message()["type"] for _ in range(2))
    assert kinds == ["message", "pmessage"]
    many = 200
    for n in range(many):
        plain.publish(channel, n)
    seen = [int(message["data"]) for message in (next_message() for _ in range(2 * many)) if message["type"] == "message"]
    assert seen == list(range(many))
    listener.close()


def test_keyspace_events(plain, name):
    plain.config_set("notify-keyspace-events", "KEA")
    try:
        listener = plain.pubsub()
        key = name("k")
        listener.subscribe(f"__keyspace@0__:{key}")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        plain.set(key, 1, px=50)
        plain.incr(key)
        events = []
        for _ in range(100):
            message = listener.get_message(timeout=0.1)
            if message:
                events.append(message["data"])
            if b"expired" in events:
                break
        assert events == [b"set", b"expire", b"incrby", b"expired"]
        listener.close()
    finally:
        plain.config_set("notify-keyspace-events", "")


def test_a_cache_in_the_client(name):
    # redis-py asks for a server of 7.4.
    caching = redis.Redis(HOST, PORT, protocol=3, cache_config=CacheConfig())
    other = connect("plain-resp3")
    keys = [name(str(n)) for n in range(10)]
    for key in keys:
        other.set(key, "old")
    for key in keys:
        assert caching.get(key) == b"old"
    assert caching.get_cache().size == len(keys)
    for key in keys:
        other.set(key, "new")
    for key in keys:
        for _ in range(100):
            if caching.get(key) == b"new":
                break
            time.sleep(0.01)
        assert caching.get(key) == b"new"
    # What others change is forgotten, whatever command changes it, and keys of every core are.
    other.execute_command(
        "MSETEX", len(keys), *(word for key in keys for word in (key, "newer"))
    )
    deadline = time.time() + 5
    while time.time() < deadline and any(caching.get(key) != b"newer" for key in keys):
        time.sleep(0.01)
    assert [caching.get(key) for key in keys] == [b"newer"] * len(keys)
    caching.close()
    other.close()


@pytest.mark.parametrize("error", [False, True])
def test_unblocked_from_outside(plain, name, error):
    mine = connect("plain-resp3")
    me = mine.client_id()
    single = mine.connection_pool.get_connection()
    single.send_command("CLIENT", "ID")
    me = single.read_response()
    single.send_command("BLPOP", name("none"), 0)
    until_blocked(plain, 1)
    assert plain.client_unblock(me, error=error) == 1
    if error:
        with pytest.raises(redis.ResponseError, match="UNBLOCKED"):
            single.read_response()
    else:
        assert single.read_response() is None
    mine.connection_pool.release(single)
    mine.close()
