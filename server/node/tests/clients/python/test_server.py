import socket
import time

import pytest
import redis

from conftest import HOST, PORT, connect


def texts(reply):
    return [entry.decode() if isinstance(entry, bytes) else entry for entry in reply]


def test_connection(plain, name):
    assert plain.ping() is True
    assert plain.echo("hello") == b"hello"
    connection = plain.client().connection
    connection.send_command("PING", "x")
    assert connection.read_response() == b"x"
    with pytest.raises(redis.ResponseError, match="unknown command"):
        plain.execute_command("NOSUCH", "x")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        plain.execute_command("GET")


def test_databases(name):
    zero, one = redis.Redis(HOST, PORT), redis.Redis(HOST, PORT, db=1)
    key = name("k")
    zero.set(key, "zero")
    assert one.get(key) is None
    assert zero.move(key, 1) and one.get(key) == b"zero"
    assert one.copy(key, key, destination_db=0) and zero.get(key) == b"zero"
    assert zero.execute_command("SWAPDB", 2, 3)
    with pytest.raises(redis.ResponseError, match="out of range"):
        zero.execute_command("SELECT", 99)


def test_flush_empties_one_database(name):
    seven = redis.Redis(HOST, PORT, db=7)
    plain = redis.Redis(HOST, PORT)
    plain.set(name("stays"), 1)
    seven.mset({name(str(i)): i for i in range(100)})
    assert seven.dbsize() == 100 and seven.flushdb() and seven.dbsize() == 0
    assert plain.exists(name("stays"))
    seven.set(name("x"), 1)
    assert seven.flushdb(asynchronous=True) and seven.dbsize() == 0


def test_client(plain):
    connection = plain.client()
    assert connection.client_setname("tester")
    assert connection.client_getname() in ("tester", b"tester")
    number = connection.client_id()
    assert connection.client_info()["id"] in (number, str(number))
    entry = [entry for entry in plain.client_list() if int(entry["id"]) == number][0]
    assert entry["name"] == "tester" and entry["cmd"].lower().startswith("client")
    assert connection.client_no_evict("ON")
    assert plain.client_kill_filter(_id=number) == 1
    with pytest.raises(redis.ConnectionError):
        for _ in range(3):
            connection.connection.send_command("PING")
            connection.connection.read_response()
            time.sleep(0.05)


def test_client_pause_holds_writes(plain, name):
    plain.set(name("k"), 1)
    plain.client_pause(300, all=False)
    start = time.monotonic()
    assert plain.get(name("k")) == b"1"
    assert plain.set(name("k"), 2)
    assert time.monotonic() - start > 0.15
    assert plain.client_unpause()


def test_hello_and_reset():
    connection = redis.Redis(HOST, PORT).client()
    hello = connection.execute_command("HELLO", 2)
    fields = dict(zip(hello[::2], hello[1::2])) if isinstance(hello, list) else hello
    assert fields[b"proto"] == 2 and fields[b"server"] == b"redis"
    with pytest.raises(redis.ResponseError, match="NOPROTO"):
        connection.execute_command("HELLO", 9)
    assert connection.execute_command("RESET") in (b"RESET", "RESET")


def test_info(plain, name):
    plain.set(name("k"), 1)
    info = plain.info()
    assert info["redis_version"].startswith("7.")
    assert info["tcp_port"] == PORT and info["uptime_in_seconds"] >= 0
    assert info["connected_clients"] >= 1 and info["total_commands_processed"] >= 1
    assert info["used_memory"] > 0 and info["db0"]["keys"] >= 1
    assert "redis_version" in plain.info("server") and "db0" in plain.info("keyspace")
    assert "role" in plain.info("replication")
    assert "cmdstat_set" in plain.info("commandstats")


def test_config(plain):
    assert plain.config_get("maxmemory") == {"maxmemory": "0"}
    assert "appendonly" in plain.config_get("append*")
    before = plain.config_get("hash-max-listpack-entries")["hash-max-listpack-entries"]
    assert plain.config_set("hash-max-listpack-entries", 77)
    assert plain.config_get("hash-max-listpack-entries") == {"hash-max-listpack-entries": "77"}
    assert plain.config_set("hash-max-listpack-entries", before)
    with pytest.raises(redis.ResponseError):
        plain.config_set("nosuchoption", 1)
    assert plain.config_resetstat()


def test_command(plain):
    assert plain.command_count() > 100
    table = plain.command()
    assert table["get"]["arity"] == 2 and "readonly" in table["get"]["flags"]
    assert texts(plain.command_getkeys("MSET", "a", 1, "b", 2)) == ["a", "b"]
    assert "get" in texts(plain.command_list())
    connection = plain.client().connection
    connection.send_command("COMMAND", "DOCS", "get")
    assert len(connection.read_response()) in (1, 2)


def test_odds_and_ends(plain, name):
    seconds, micros = plain.time()
    assert abs(seconds - time.time()) < 5 and 0 <= micros < 1_000_000
    assert plain.lastsave()
    assert isinstance(plain.execute_command("LOLWUT"), (bytes, str))
    assert plain.execute_command("MEMORY", "DOCTOR") is not None


def test_output_of_a_client_told_to_be_silent(plain):
    connection = plain.client().connection
    connection.send_command("CLIENT", "REPLY", "SKIP")
    connection.send_command("PING")
    connection.send_command("ECHO", "after")
    assert connection.read_response() == b"after"


def test_a_client_that_has_sent_its_last_byte_gets_all_replies(name):
    keys = [name(f"half-closed:{i}") for i in range(300)]
    requests = b"".join(b"SET %s %d\r\n" % (k.encode(), i) for i, k in enumerate(keys))
    requests += b"MGET " + " ".join(keys).encode() + b"\r\n"
    with socket.create_connection((HOST, PORT), timeout=60) as half:
        half.sendall(requests)
        half.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: half.recv(65536), b""))
    assert received.startswith(b"+OK\r\n" * 300 + b"*300\r\n$1\r\n0\r\n")
    assert received.endswith(b"$3\r\n299\r\n")


@pytest.mark.parametrize("kind", ["cluster-resp2", "cluster-resp3"])
def test_cluster_topology(kind):
    client = connect(kind)
    ranges = client.cluster_slots()
    covered = sum(last - first + 1 for first, last in ranges)
    assert covered == 16384
    assert client.cluster_info()["cluster_state"] == "ok"
    assert client.cluster_keyslot("foo") == 12182
    assert len(client.get_primaries()) >= 1
    assert client.get_node_from_key("foo") is not None


@pytest.mark.parametrize("enabled", [True, "auto"])
def test_maintenance_notifications_are_switched_on(name, enabled):
    maintenance = pytest.importorskip("redis.maint_notifications")
    config = maintenance.MaintNotificationsConfig(enabled=enabled)
    client = redis.Redis(HOST, PORT, protocol=3, maint_notifications_config=config)
    assert client.set(name("k"), 1) and client.get(name("k")) == b"1"
    # Each connection asks for itself, and is refused where it could not be told.
    stats = client.info("commandstats")["cmdstat_client|maint_notifications"]
    assert stats["calls"] >= 1
    with pytest.raises(redis.ResponseError, match="RESP3"):
        redis.Redis(HOST, PORT, protocol=2).execute_command("CLIENT", "MAINT_NOTIFICATIONS", "ON")
