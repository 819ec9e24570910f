"""Where the server is, and clients of every kind for it.

MERIDIAN_HOST (127.0.0.1), MERIDIAN_PORT (6379): a server as plain clients see it.
MERIDIAN_CLUSTER_PORT: any port of a server in cluster mode; without it the cluster half is skipped.
"""

import os
import uuid

import pytest
import redis

HOST = os.environ.get("MERIDIAN_HOST", "127.0.0.1")
PORT = int(os.environ.get("MERIDIAN_PORT", "6379"))
CLUSTER_PORT = int(os.environ.get("MERIDIAN_CLUSTER_PORT", "0"))

KINDS = ["plain-resp2", "plain-resp3", "cluster-resp2", "cluster-resp3"]


def connect(kind, **options):
    protocol = int(kind[-1])
    options.setdefault("socket_timeout", 60)
    if kind.startswith("plain"):
        return redis.Redis(HOST, PORT, protocol=protocol, **options)
    if CLUSTER_PORT == 0:
        pytest.skip("no MERIDIAN_CLUSTER_PORT")
    return redis.RedisCluster(HOST, CLUSTER_PORT, protocol=protocol, **options)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def r(kind):
    client = connect(kind)
    yield client
    client.close()


@pytest.fixture(params=["plain-resp2", "plain-resp3"])
def plain(request):
    client = connect(request.param)
    yield client
    client.close()


@pytest.fixture
def k(kind):
    """Makes key names: in one slot for a cluster, all over the slots (so the cores) otherwise."""
    tag = uuid.uuid4().hex[:8]
    return (lambda name: f"{tag}:{name}") if kind.startswith("plain") else (lambda name: f"{{{tag}}}:{name}")


@pytest.fixture
def name():
    """A key of its own for tests with plain clients only."""
    tag = uuid.uuid4().hex[:8]
    return lambda rest: f"{tag}:{rest}"


def pairs(reply):
    """Members and scores, whether they came as tuples (RESP2) or as lists (RESP3)."""
    return [(member, float(score)) for member, score in reply]


def popped(reply):
    """The same for ZPOPMIN without a count, which RESP3 answers with one flat pair."""
    return pairs(reply if isinstance(reply[0], (tuple, list)) else [reply])
