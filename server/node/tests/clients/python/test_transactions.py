import threading

import pytest
import redis

from conftest import connect


def test_a_block_over_many_slots(plain, name):
    with plain.pipeline(transaction=True) as block:
        for i in range(50):
            block.set(name(str(i)), i)
        block.mget(*[name(str(i)) for i in range(50)])
        replies = block.execute()
    assert replies[:50] == [True] * 50
    assert replies[50] == [str(i).encode() for i in range(50)]


def test_refusals_inside_a_block(plain, name):
    plain.set(name("s"), "text")
    block = plain.pipeline(transaction=True)
    block.set(name("a"), 1).incr(name("s")).set(name("b"), 2)
    replies = block.execute(raise_on_error=False)
    assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] is True
    block = plain.pipeline(transaction=True)
    block.set(name("c"), 1).execute_command("NOSUCHCOMMAND")
    with pytest.raises(redis.ResponseError):
        block.execute()
    assert plain.get(name("c")) is None


def test_watch_sees_changes_deadlines_and_others(plain, name):
    key, other = name("watched"), name("other")
    plain.set(key, 1)
    with plain.pipeline() as block:
        block.watch(key, other)
        block.multi()
        block.set(other, "mine")
        assert block.execute() == [True]
    with plain.pipeline() as block:
        block.watch(key, other)
        plain.set(other, "changed")
        block.multi()
        block.set(key, "lost")
        with pytest.raises(redis.WatchError):
            block.execute()
    with plain.pipeline() as block:
        block.watch(key)
        plain.set(key, 2)
        block.unwatch()
        block.multi()
        block.set(key, 3)
        assert block.execute() == [True]
    assert plain.get(key) == b"3"


@pytest.mark.parametrize("kind", ["plain-resp2", "plain-resp3"])
def test_watch_with_retries_loses_no_increment(kind, name):
    """Two counters in different slots are moved together, optimistically, by several clients at once."""
    a, b = name("a"), name("b")
    clients, times = 4, 100
    faults = []

    def work():
        try:
            client = connect(kind)
            for _ in range(times):
                def step(block):
                    # One read of both: two reads may lie on both sides of another's EXEC.
                    left, right = (int(value or 0) for value in block.mget(a, b))
                    assert left == -right
                    block.multi()
                    block.set(a, left + 1)
                    block.set(b, right - 1)
                client.transaction(step, a, b)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not faults
    client = connect(kind)
    assert client.mget(a, b) == [str(clients * times).encode(), str(-clients * times).encode()]


@pytest.mark.parametrize("kind", ["cluster-resp2", "cluster-resp3"])
def test_blocks_of_a_cluster_client(kind, name):
    client = connect(kind)
    key = "{" + name("tag") + "}"
    with client.pipeline(transaction=True) as block:
        block.set(key + "a", 1)
        block.incr(key + "a")
        assert block.execute() in ([True, 2], [b"OK", 2])
