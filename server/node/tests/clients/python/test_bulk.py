"""Much at once: long pipelines, large values, many connections."""

import threading

import pytest
import redis

from conftest import CLUSTER_PORT, HOST, PORT, connect

MB = 1 << 20


def test_ten_thousand_commands_in_a_pipeline(r, k):
    pipe = r.pipeline(transaction=False)
    for i in range(5_000):
        pipe.set(k(str(i)), i)
        pipe.get(k(str(i)))
    replies = pipe.execute()
    assert len(replies) == 10_000
    assert all(replies[0::2]) and replies[1::2] == [str(i).encode() for i in range(5_000)]


def test_a_pipeline_keeps_the_order_of_one_key(plain, name):
    pipe = plain.pipeline(transaction=False)
    for i in range(10_000):
        pipe.incr(name("n"))
    assert pipe.execute() == list(range(1, 10_001))


def test_mixed_pipeline_answers_in_order(plain, name):
    pipe = plain.pipeline(transaction=False)
    want = []
    for i in range(1_000):
        pipe.rpush(name(f"l{i % 7}"), i)
        pipe.mset({name(f"a{i}"): i, name(f"b{i}"): -i})
        pipe.mget(name(f"a{i}"), name(f"b{i}"), name("none"))
        pipe.delete(name(f"a{i}"), name(f"b{i}"))
        want += [i // 7 + 1, True, [str(i).encode(), str(-i).encode(), None], 2]
    assert pipe.execute() == want


def test_ten_megabytes(r, k):
    value = bytes(range(256)) * (10 * MB // 256)
    assert r.set(k("big"), value)
    assert r.strlen(k("big")) == len(value)
    assert r.get(k("big")) == value
    assert r.getrange(k("big"), 5 * MB, 5 * MB + 9) == value[5 * MB : 5 * MB + 10]
    assert r.hset(k("h"), "f", value) == 1 and r.hget(k("h"), "f") == value
    assert r.rpush(k("l"), value, value) == 2 and r.lpop(k("l")) == value
    assert r.delete(k("big"), k("h"), k("l")) == 3


def test_binary_keys_and_values(r):
    key, value = bytes(range(256)), b"\r\n*1\r\n$4\r\nPING\r\n\0"
    assert r.set(key, value) and r.get(key) == value and r.delete(key) == 1


def test_pool_shared_by_threads(name):
    pool = redis.BlockingConnectionPool(host=HOST, port=PORT, max_connections=8, timeout=60)
    client = redis.Redis(connection_pool=pool)
    faults = []

    def work(worker):
        try:
            for i in range(200):
                key = name(f"{worker}:{i}")
                client.set(key, i)
                assert client.get(key) == str(i).encode()
                client.incr(name("total"))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not faults and client.get(name("total")) == b"4800"
    pool.disconnect()


def test_many_connections(name):
    clients = [redis.Redis(HOST, PORT, single_connection_client=True) for _ in range(200)]
    for i, client in enumerate(clients):
        assert client.set(name(str(i)), i)
    for i, client in enumerate(reversed(clients)):
        assert client.get(name(str(i))) == str(i).encode()
        client.close()


@pytest.mark.parametrize("kind", ["cluster-resp2", "cluster-resp3"])
def test_cluster_spreads_keys_without_tags(kind, name):
    client = connect(kind)
    pipe = client.pipeline()
    for i in range(1_000):
        pipe.set(name(str(i)), i)
    assert all(pipe.execute())
    assert client.mget_nonatomic([name(str(i)) for i in range(1_000)]) == [str(i).encode() for i in range(1_000)]
    straight = redis.Redis(HOST, CLUSTER_PORT)
    with pytest.raises(redis.ResponseError, match="same slot|MOVED"):
        straight.mget(name("0"), name("1"))
