"""Memory of sparsely used pages comes back: keys of other sizes, and keys that were deleted here and there."""

import random
import time

import pytest
import redis

from conftest import HOST, PORT

MANY = 400_000
DB = 9
THRESHOLDS = {
    "active-defrag-ignore-bytes": 1,
    "active-defrag-threshold-lower": 1,
    "active-defrag-cycle-min": 50,
    "active-defrag-cycle-max": 90,
}


@pytest.fixture
def sparse():
    """A database of its own with a fifth of the keys that were there, and the numbers of those."""
    client = redis.Redis(HOST, PORT, db=DB, socket_timeout=60)
    client.flushdb()
    before = {option: client.config_get(option)[option] for option in [*THRESHOLDS, "activedefrag"]}
    batch = client.pipeline(transaction=False)
    for number in range(MANY):
        batch.set(f"sparse:{number}", f"{number:040}", ex=100_000 if number % 7 == 0 else None)
        if number % 10_000 == 9_999:
            batch.execute()
    numbers = random.Random(4).sample(range(MANY), MANY)
    kept, gone = numbers[: MANY // 5], numbers[MANY // 5 :]
    for at in range(0, len(gone), 10_000):
        client.delete(*(f"sparse:{number}" for number in gone[at : at + 10_000]))
    yield client, kept
    client.flushdb()
    for option, value in before.items():
        client.config_set(option, value)


def test_active_defragmentation(sparse):
    client, kept = sparse
    time.sleep(1)
    stats, memory = client.info("stats"), client.info("memory")
    assert memory["active_defrag_running"] == 0
    for option, value in THRESHOLDS.items():
        client.config_set(option, value)
    client.config_set("activedefrag", "yes")
    # Four of five keys of 80 bytes have left holes: most of that comes back.
    wanted = memory["used_memory_rss"] - MANY * 80 * 4 // 5 // 2
    for _ in range(600):
        if client.info("memory")["used_memory_rss"] < wanted:
            break
        client.incr("meanwhile")
        time.sleep(0.1)
    else:
        pytest.fail(f"resident: {memory['used_memory_rss']}, then {client.info('memory')['used_memory_rss']}")
    moved = client.info("stats")["active_defrag_key_hits"] - stats["active_defrag_key_hits"]
    assert moved > MANY // 20
    batch = client.pipeline(transaction=False)
    for number in kept:
        batch.get(f"sparse:{number}")
    assert batch.execute() == [b"%040d" % number for number in kept]
    for number in kept[:2000]:
        batch.ttl(f"sparse:{number}")
    for number, left in zip(kept, batch.execute()):
        assert 99_000 < left <= 100_000 if number % 7 == 0 else left == -1
    assert client.dbsize() == len(kept) + 1
