"""MIGRATE, from the server to a redis-server that is started for it."""

import shutil
import socket
import subprocess
import threading
import time

import pytest
import redis

from conftest import HOST, PORT


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server to migrate to")
    port = free_port()
    folder = tmp_path_factory.mktemp("target")
    command = [program, "--port", str(port), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    for _ in range(100):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    yield client, port
    client.close()
    process.terminate()
    process.wait(10)


def test_keys_of_every_type_move(plain, name, target):
    there, port = target
    there.flushall()
    keys = {kind: name(kind) for kind in ("string", "list", "hash", "set", "zset", "stream")}
    plain.set(keys["string"], "v", px=100_000)
    plain.rpush(keys["list"], *range(500))
    plain.hset(keys["hash"], mapping={"f": "v"})
    plain.sadd(keys["set"], "a", "b")
    plain.zadd(keys["zset"], {"m": 1.5})
    plain.xadd(keys["stream"], {"f": "v"}, id="1-1")
    names = list(keys.values())
    assert plain.migrate("127.0.0.1", port, names + [name("none")], 0, 5000) == b"OK"
    assert plain.exists(*names) == 0
    assert there.exists(*names) == len(names)
    assert there.get(keys["string"]) == b"v" and 0 < there.pttl(keys["string"]) <= 100_000
    assert there.lrange(keys["list"], 0, -1) == [str(n).encode() for n in range(500)]
    assert there.zscore(keys["zset"], "m") == 1.5
    assert there.xrange(keys["stream"]) == [(b"1-1", {b"f": b"v"})]
    assert plain.migrate("127.0.0.1", port, names, 0, 5000) == b"NOKEY"


def test_options_and_refusals(plain, name, target):
    there, port = target
    there.flushall()
    key = name("k")
    plain.set(key, "here")
    there.set(key, "there")
    with pytest.raises(redis.ResponseError, match="Target instance replied with error: BUSYKEY"):
        plain.migrate("127.0.0.1", port, key, 0, 5000)
    assert plain.migrate("127.0.0.1", port, key, 0, 5000, copy=True, replace=True) == b"OK"
    assert plain.get(key) == there.get(key) == b"here"
    with pytest.raises(redis.ResponseError, match="Target .*WRONGPASS|Target .*AUTH"):
        plain.migrate("127.0.0.1", port, key, 0, 5000, auth="wrong")
    with pytest.raises(redis.ResponseError, match="DB index is out of range"):
        plain.migrate("127.0.0.1", port, key, 99, 5000)
    with pytest.raises(redis.ResponseError, match="IOERR error or timeout connecting"):
        plain.migrate("127.0.0.1", free_port(), key, 0, 500)
    assert plain.get(key) == b"here", "what was not acknowledged stays"
    with plain.pipeline() as pipeline:
        pipeline.migrate("127.0.0.1", port, key, 0, 5000)
        with pytest.raises(redis.ResponseError, match="not possible inside MULTI"):
            pipeline.execute()


def test_a_key_on_its_way_waits_and_others_do_not(plain, name):
    # Of two slots: what is on its way is a slot, and two names share one by chance.
    key, other = name("{a}k"), name("{b}other")
    plain.set(key, "v")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        errors = []

        def migrate():
            try:
                client = redis.Redis(HOST, PORT)
                client.migrate("127.0.0.1", silent.getsockname()[1], key, 0, 500)
            except redis.ResponseError as error:
                errors.append(str(error))

        thread = threading.Thread(target=migrate)
        thread.start()
        connection, _ = silent.accept()
        # SELECT, then RESTORE: once some of it is there, the slot is held.
        connection.recv(1)
        started = time.monotonic()
        assert plain.set(other, 1) and time.monotonic() - started < 0.3
        assert plain.append(key, "!") == 2
        assert time.monotonic() - started > 0.2, "until its fate was known"
        thread.join()
        connection.close()
    assert errors == ["IOERR error or timeout reading to target instance"]
    assert plain.get(key) == b"v!"


def test_keys_are_at_one_server_at_a_time(plain, name, target):
    there, port = target
    there.flushall()
    keys = [name(str(n)) for n in range(50)]
    plain.mset({key: 0 for key in keys})
    added = [0]
    stop = threading.Event()

    def add():
        # XX: only where the key is. It never makes one that has moved.
        client = redis.Redis(HOST, PORT)
        while not stop.is_set():
            for key in keys:
                value = client.eval("return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('INCR', KEYS[1])", 1, key)
                added[0] += value is not None

    thread = threading.Thread(target=add)
    thread.start()
    for start in range(0, 50, 5):
        time.sleep(0.02)
        assert plain.migrate("127.0.0.1", port, keys[start : start + 5], 0, 5000) == b"OK"
    stop.set()
    thread.join()
    assert plain.exists(*keys) == 0
    assert sum(int(there.get(key)) for key in keys) == added[0], "no increment is lost or doubled"


def test_what_needs_every_slot_waits_for_keys_on_their_way(plain, name):
    zero, one = redis.Redis(HOST, PORT, db=8), redis.Redis(HOST, PORT, db=9)
    key = name("k")
    zero.set(key, "zero")
    one.set(key, "one")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        def answer():
            connection, _ = silent.accept()
            heard = b""
            while b"RESTORE" not in heard:
                heard += connection.recv(1000)
            time.sleep(0.3)
            connection.sendall(b"+OK\r\n+OK\r\n")
            time.sleep(0.1)
            connection.close()

        server = threading.Thread(target=answer)
        server.start()
        replies = []
        port = silent.getsockname()[1]
        mover = threading.Thread(target=lambda: replies.append(redis.Redis(HOST, PORT, db=8).migrate("127.0.0.1", port, key, 0, 5000)))
        mover.start()
        time.sleep(0.15)
        # Not before the key is gone: else the other database's would be removed in its place.
        assert plain.swapdb(8, 9)
        script = "return redis.call('SET', ARGV[1], 'late')"
        assert zero.eval(script, 0, key + "2") == b"OK"
        mover.join()
        server.join()
    assert replies == [b"OK"]
    assert zero.get(key) == b"one" and one.exists(key) == 0
