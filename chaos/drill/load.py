"""Clients of an application that is being moved. Each keeps a record of what it was told, and judges by it.

A command ends in one of three ways: acknowledged (its reply counts), refused (an error reply: nothing was done), or unknown
(the connection broke, or the server said that it does not know). An unknown command may have been executed once, or not at
all; never twice. Nothing here reads the server's own account of what it did.
"""

import random
import threading
import time

import redis

# What the server says when it does not know whether a command was executed.
UNKNOWN = "unknown"


class Unknown(Exception):
    """The command may have been executed, or not."""


class Stopped(Exception):
    """The load ends."""


class Client:
    """A client that comes back after errors, and says how each command ended."""

    def __init__(self, world, port, name):
        self.world, self.port, self.name = world, port, name
        self.conn = None

    def connection(self):
        """A connection of its own, made when there is none."""
        while self.conn is None:
            if self.world.stopping.is_set():
                raise Stopped
            try:
                self.conn = redis.Redis(
                    port=self.port, single_connection_client=True, socket_timeout=20, protocol=self.world.protocol,
                    retry=None, retry_on_timeout=False, decode_responses=False, **self.world.login(self.port))
                self.conn.ping()
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                self.world.note(self.name, "connect", error)
                self.conn = None
                time.sleep(0.05)
        return self.conn

    def lose(self):
        """Forgets the connection."""
        if self.conn is not None:
            try:
                self.conn.close()
            except redis.RedisError:
                pass
            self.conn = None

    def attempt(self, run, blocks=False):
        """Runs `run(connection)`: its result; Unknown, or the server's own refusal."""
        conn = self.connection()
        begin = time.monotonic()
        try:
            result = run(conn)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # (An answer of LOADING is a ConnectionError to redis-py, and it was not executed.)
            is_refusal = isinstance(error, redis.exceptions.BusyLoadingError)
            self.lose()
            self.world.note(self.name, "lost", error)
            if is_refusal:
                raise redis.ResponseError(str(error)) from error
            raise Unknown(str(error)) from error
        except redis.ResponseError as error:
            if isinstance(error, redis.WatchError):
                raise
            self.world.note(self.name, "error", error)
            if UNKNOWN in str(error):
                raise Unknown(str(error)) from error
            raise
        if not blocks:
            self.world.took(self.name, begin, time.monotonic() - begin)
        return result


class World:
    """What all clients share."""

    def __init__(self, port, source_port, seed, protocol=2, source_user=None, version=(7, 0)):
        self.source_user, self.version = source_user, version
        self.port, self.source_port, self.seed, self.protocol = port, source_port, seed, protocol
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.violations = []
        self.errors = {}
        self.longest = (0.0, 0.0, "")
        self.slow = []
        self.acknowledged = 0
        self.workers = []

    def login(self, port):
        """Who clients are: at the source a user that can be barred there, if there is one."""
        is_named = self.source_user and port == self.source_port
        return {"username": self.source_user, "password": "any"} if is_named else {}

    def violate(self, who, what):
        """A law does not hold."""
        with self.lock:
            self.violations.append(f"{time.strftime('%T')} {who}: {what}")

    def note(self, who, kind, error):
        """Counts errors by their text."""
        text = f"{kind}: {type(error).__name__}: {str(error)[:90]}"
        with self.lock:
            count, first = self.errors.get(text, (0, f"{time.strftime('%T')} {who}"))
            self.errors[text] = (count + 1, first)

    def took(self, who, begin, seconds):
        """A command was acknowledged after so many seconds."""
        with self.lock:
            self.acknowledged += 1
            if seconds > self.longest[0]:
                self.longest = (seconds, begin, who)
            if seconds > 0.05:
                self.slow.append((begin, seconds, who))

    def longest_between(self, begin, end):
        """The longest wait of any command that was under way in this time, seconds."""
        with self.lock:
            return max((s for b, s, _ in self.slow if b <= end and b + s >= begin), default=0.0)

    def start(self, workers):
        """Starts clients."""
        for worker in workers:
            thread = threading.Thread(target=self.run, args=(worker,), daemon=True)
            self.workers.append((worker, thread))
            thread.start()

    def run(self, worker):
        """A client's life."""
        while not self.stopping.is_set():
            try:
                worker.step()
            except Stopped:
                break
            except Unknown:
                worker.unknown()
            except redis.ResponseError:
                # Nothing was done.
                time.sleep(0.01)
            except Exception as error:  # pylint: disable=broad-except
                self.violate(worker.name, f"{type(error).__name__}: {error}")
                break

    def stop(self):
        """Ends the load; what each client was told is judged afterwards."""
        self.stopping.set()
        for worker, thread in self.workers:
            thread.join(timeout=40)
            if thread.is_alive():
                self.violate(worker.name, "it does not end: a command was never answered")


class Worker(Client):
    """One client with its own random picks."""

    def __init__(self, world, name, port=None):
        super().__init__(world, port or world.port, name)
        self.random = random.Random(f"{world.seed}/{name}")

    def unknown(self):
        """The last command's outcome is unknown."""

    def judge(self, final):
        """Looks at what is there at the end."""


class Counter(Worker):
    """Alone on its key: every reply is one more than the one before, but for unknown ones."""

    def __init__(self, world, name, port=None):
        super().__init__(world, name, port)
        self.key, self.value, self.maybe = f"counter:{name}", 0, 0

    def step(self):
        value = self.attempt(lambda conn: conn.incr(self.key))
        if not self.value + 1 <= value <= self.value + 1 + self.maybe:
            self.world.violate(self.name, f"INCR answers {value} after {self.value}, {self.maybe} unknown")
        self.value, self.maybe = value, 0
        time.sleep(self.random.random() * 0.01)

    def unknown(self):
        self.maybe += 1

    def judge(self, final):
        value = int(final.get(self.key) or 0)
        if not self.value <= value <= self.value + self.maybe:
            self.world.violate(self.name, f"{self.key} is {value} at the end, {self.value} were acknowledged, {self.maybe} unknown")


class Direct(Counter):
    """As Counter, straight at the source: refused while the source has not the authority."""

    def __init__(self, world, name):
        super().__init__(world, name, world.source_port)


class Producer(Worker):
    """Puts numbers into a queue."""

    def __init__(self, world, name, queue):
        super().__init__(world, name)
        self.queue, self.next, self.put, self.maybe = queue, 0, set(), set()

    def step(self):
        self.next += 1
        item = f"{self.name}-{self.next}"
        try:
            self.attempt(lambda conn: conn.lpush(self.queue, item))
            self.put.add(item)
        except Unknown:
            self.maybe.add(item)
        time.sleep(self.random.random() * 0.01)


class Consumer(Worker):
    """Takes them out, waiting for them."""

    def __init__(self, world, name, queue):
        super().__init__(world, name)
        self.queue, self.took_out, self.lost_max = queue, [], 0

    def step(self):
        found = self.attempt(lambda conn: conn.blpop([self.queue], timeout=1), blocks=True)
        if found is not None:
            self.took_out.append(found[1].decode())

    def unknown(self):
        # It may have taken one.
        self.lost_max += 1


def judge_queue(world, queue, producers, consumers, final):
    """Every number is taken out once, or still there."""
    taken = [item for consumer in consumers for item in consumer.took_out]
    left = [item.decode() for item in final.lrange(queue, 0, -1)]
    seen = taken + left
    if len(seen) != len(set(seen)):
        twice = {item for item in seen if seen.count(item) > 1}
        world.violate(queue, f"taken out twice: {sorted(twice)[:5]}")
    put = set().union(*(producer.put for producer in producers))
    maybe = set().union(*(producer.maybe for producer in producers))
    lost = put - set(seen)
    if len(lost) > sum(consumer.lost_max for consumer in consumers):
        world.violate(queue, f"{len(lost)} lost: {sorted(lost)[:5]}")
    strange = set(seen) - put - maybe
    if strange:
        world.violate(queue, f"never put in: {sorted(strange)[:5]}")


RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Locker(Worker):
    """Holds a lock from time to time."""

    PX = 400

    def __init__(self, world, name):
        super().__init__(world, name)
        self.held, self.tries = [], 0

    def step(self):
        self.tries += 1
        token = f"{self.name}-{self.tries}"
        asked = time.monotonic()
        if not self.attempt(lambda conn: conn.set("lock", token, nx=True, px=self.PX)):
            time.sleep(0.002)
            return
        begin, end = time.monotonic(), asked + self.PX / 1000
        time.sleep(self.random.random() * 0.01)
        end = min(end, time.monotonic())
        self.held.append((begin, end, self.name))
        self.attempt(lambda conn: conn.eval(RELEASE, 1, "lock", token))


def judge_locks(world, lockers):
    """No two held it at once."""
    held = sorted(span for locker in lockers for span in locker.held if span[0] < span[1])
    for before, after in zip(held, held[1:]):
        if after[0] < before[1]:
            world.violate("lock", f"{before[2]} and {after[2]} both held it for {1e3 * (before[1] - after[0]):.1f} ms")


TRANSFER = """local a = tonumber(redis.call('get', KEYS[1])) local n = tonumber(ARGV[1])
redis.call('set', KEYS[1], a - n) redis.call('incrby', KEYS[2], n) return a - n"""


class Transfer(Worker):
    """Moves amounts between accounts: by a script, or by WATCH and MULTI."""

    def __init__(self, world, name, accounts, by_script):
        super().__init__(world, name)
        self.accounts, self.by_script = accounts, by_script

    def step(self):
        one, other = self.random.sample(self.accounts, 2)
        amount = self.random.randrange(1, 10)
        if self.by_script:
            self.attempt(lambda conn: conn.eval(TRANSFER, 2, one, other, amount))
        else:
            self.attempt(lambda conn: self.transact(conn, one, other, amount))
        time.sleep(self.random.random() * 0.01)

    @staticmethod
    def transact(conn, one, other, amount):
        """WATCH, read, MULTI, write, EXEC; nothing when somebody else was faster."""
        with conn.pipeline() as pipe:
            try:
                pipe.watch(one, other)
                have, has = int(pipe.get(one)), int(pipe.get(other))
                pipe.multi()
                pipe.set(one, have - amount)
                pipe.set(other, has + amount)
                pipe.execute()
            except redis.WatchError:
                pass


class Auditor(Worker):
    """Reads all accounts at once: their sum never changes."""

    def __init__(self, world, name, accounts, total):
        super().__init__(world, name)
        self.accounts, self.total = accounts, total

    def step(self):
        self.check([int(value or 0) for value in self.attempt(lambda conn: conn.mget(self.accounts))])
        time.sleep(0.005)

    def check(self, values):
        if sum(values) != self.total:
            self.world.violate(self.name, f"the sum is {sum(values)}, not {self.total}: {values}")

    def judge(self, final):
        self.check([int(value or 0) for value in final.mget(self.accounts)])


class Expirer(Worker):
    """Keys are there until their deadline, and not afterwards.

    A Redis before 6.2 tells its replicas how long a key has left, so a key lives longer there by what that took to arrive."""

    LATE, LATE_BEFORE_6_2 = 0.05, 0.25

    def step(self):
        late = self.LATE if self.world.version >= (6, 2) else self.LATE_BEFORE_6_2
        key, px = f"brief:{self.name}:{self.random.randrange(50)}", self.random.randrange(100, 500)
        asked = time.time()
        self.attempt(lambda conn: conn.set(key, "x", px=px))
        told = time.time()
        while True:
            begin = time.time()
            found = self.attempt(lambda conn: conn.get(key))
            end = time.time()
            if found is None and end < asked + px / 1000 - 0.02:
                self.world.violate(self.name, f"{key} is gone {1e3 * (asked + px / 1000 - end):.0f} ms before its deadline")
            if found is not None and begin > told + px / 1000 + late:
                self.world.violate(self.name, f"{key} is there {1e3 * (begin - told) - px:.0f} ms after its deadline")
            if found is None:
                return
            time.sleep(0.03)


class Model(Worker):
    """Alone on its keys, of every type; knows what must be in them, and looks after every write."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.have = {kind: None for kind in KINDS}
        self.open = None

    def key(self, kind):
        return f"model:{self.name}:{kind}"

    def step(self):
        kind = self.random.choice(list(KINDS))
        act, read, change = KINDS[kind]
        before = self.have[kind]
        plan = change(self.random, before)
        if self.world.version < SINCE.get(plan[0], (0, 0)):
            return
        self.open = (kind, before, plan)
        reply = self.attempt(lambda conn: conn.execute_command(plan[0], self.key(kind), *plan[1]))
        self.have[kind] = act(before, plan, reply)
        self.open = None
        seen = self.attempt(lambda conn: read(conn, self.key(kind)))
        if seen != self.have[kind]:
            self.world.violate(self.name, f"{kind}: after {plan} it is {str(seen)[:200]}, not {str(self.have[kind])[:200]}")
            self.have[kind] = seen
        time.sleep(self.random.random() * 0.005)

    def unknown(self):
        """It was executed or not: what is there says which. (A pop's reply is lost, so what it took is what is missing.)"""
        if self.open is None:
            return
        kind, before, plan = self.open
        act, read, _ = KINDS[kind]
        while True:
            try:
                seen = self.attempt(lambda conn: read(conn, self.key(kind)))
                break
            except (Unknown, redis.ResponseError):
                time.sleep(0.05)
        outcomes = [before] + [act(before, plan, reply) for reply in POSSIBLE.get(plan[0], lambda _: [None])(before)]
        if plan[0] != "XADD" and seen not in outcomes:
            self.world.violate(self.name, f"{kind}: after {plan}, outcome unknown, it is {str(seen)[:200]}; before it was {str(before)[:200]}")
        self.have[kind] = seen
        self.open = None

    def judge(self, final):
        for kind, (_, read, _) in KINDS.items():
            seen = read(final, self.key(kind))
            if self.open is not None and self.open[0] == kind:
                continue
            if seen != self.have[kind]:
                self.world.violate(self.name, f"{kind} at the end: {str(seen)[:200]}, not {str(self.have[kind])[:200]}")


def word(rng):
    """A short value; some look like integers, some are long enough for other encodings."""
    return rng.choice([b"%d" % rng.randrange(1000), b"w%d" % rng.randrange(40), b"x" * rng.randrange(1, 90)])


# A kind: what a command makes of what was there; how it is read; which command comes next.
def string_change(rng, _):
    return rng.choice([("SET", [word(rng)]), ("APPEND", [word(rng)]), ("SETRANGE", [rng.randrange(20), word(rng)]),
                       ("GETDEL", []), ("SETEX", [1000, word(rng)])])


def string_act(have, plan, _):
    text = have or b""
    if plan[0] == "SET":
        return plan[1][0]
    if plan[0] == "SETEX":
        return plan[1][1]
    if plan[0] == "GETDEL":
        return None
    if plan[0] == "APPEND":
        return text + plan[1][0]
    at, put = plan[1]
    text = text.ljust(at, b"\0")
    return text[:at] + put + text[at + len(put):]


def list_change(rng, have):
    pivot = rng.choice(have) if have else b"none"
    many = ("LTRIM", [0, 30]) if have and len(have) > 40 else ("RPUSH", [word(rng), word(rng)])
    return rng.choice([("RPUSH", [word(rng)]), ("LPUSH", [word(rng)]), ("LPOP", []), ("RPOP", []), many,
                       ("LINSERT", ["BEFORE", pivot, word(rng)]), ("LREM", [rng.choice([1, -1, 0]), pivot])])


def list_act(have, plan, _):
    items, args = list(have or []), plan[1]
    if plan[0] == "RPUSH":
        items += args
    elif plan[0] == "LPUSH":
        items = args[::-1] + items
    elif plan[0] == "LPOP":
        items = items[1:]
    elif plan[0] == "RPOP":
        items = items[:-1]
    elif plan[0] == "LTRIM":
        items = items[args[0]:args[1] + 1]
    elif plan[0] == "LINSERT" and args[1] in items:
        items.insert(items.index(args[1]), args[2])
    elif plan[0] == "LREM":
        count, value = args
        order = items[::-1] if count < 0 else items
        for _ in range(abs(count) or items.count(value)):
            if value in order:
                order.remove(value)
        items = order[::-1] if count < 0 else order
    return items or None


def hash_change(rng, have):
    if have and rng.random() < 0.3:
        return ("HDEL", [rng.choice(list(have))])
    if rng.random() < 0.4:
        return ("HINCRBY", [b"n%d" % rng.randrange(5), rng.randrange(-9, 9)])
    return ("HSET", [b"f%d" % rng.randrange(40), word(rng)])


def hash_act(have, plan, _):
    fields, args = dict(have or {}), plan[1]
    if plan[0] == "HDEL":
        fields.pop(args[0], None)
    elif plan[0] == "HSET":
        fields[args[0]] = args[1]
    else:
        fields[args[0]] = b"%d" % (int(fields.get(args[0], 0)) + args[1])
    return fields or None


def set_change(rng, have):
    if have and rng.random() < 0.3:
        return ("SPOP", [])
    if have and rng.random() < 0.2:
        return ("SREM", [rng.choice(sorted(have))])
    return ("SADD", [word(rng)])


def set_act(have, plan, reply):
    members = set(have or set())
    if plan[0] == "SADD":
        members.add(plan[1][0])
    elif plan[0] == "SREM":
        members.discard(plan[1][0])
    else:
        members.discard(reply)
    return members or None


def zset_change(rng, have):
    if have and rng.random() < 0.2:
        return ("ZPOPMIN", [])
    if have and rng.random() < 0.2:
        return ("ZREM", [rng.choice(have)[0]])
    return rng.choice([("ZADD", [rng.randrange(100) / 4, word(rng)]), ("ZINCRBY", [rng.randrange(8), b"m%d" % rng.randrange(9)])])


def zset_act(have, plan, _):
    scores, args = dict(have or []), plan[1]
    if plan[0] == "ZADD":
        scores[args[1]] = float(args[0])
    elif plan[0] == "ZINCRBY":
        scores[args[1]] = scores.get(args[1], 0.0) + args[0]
    elif plan[0] == "ZREM":
        scores.pop(args[0], None)
    elif scores:
        del scores[min(scores, key=lambda member: (scores[member], member))]
    return sorted(scores.items(), key=lambda pair: (pair[1], pair[0])) or None


def stream_change(rng, have):
    if have and rng.random() < 0.2:
        return ("XDEL", [rng.choice(have)[0]])
    if have and len(have) > 30:
        return ("XTRIM", ["MAXLEN", "=", 10])
    return ("XADD", ["*", b"f", word(rng)])


def stream_act(have, plan, reply):
    entries = list(have or [])
    if plan[0] == "XADD":
        entries.append((reply, {b"f": plan[1][2]}))
    elif plan[0] == "XDEL":
        entries = [entry for entry in entries if entry[0] != plan[1][0]]
    else:
        entries = entries[-10:]
    return entries or None


KINDS = {
    "string": (string_act, lambda conn, key: conn.get(key), string_change),
    "list": (list_act, lambda conn, key: conn.lrange(key, 0, -1) or None, list_change),
    "hash": (hash_act, lambda conn, key: conn.hgetall(key) or None, hash_change),
    "set": (set_act, lambda conn, key: conn.smembers(key) or None, set_change),
    "zset": (zset_act, lambda conn, key: conn.zrange(key, 0, -1, withscores=True) or None, zset_change),
    "stream": (stream_act, lambda conn, key: conn.xrange(key) or None, stream_change),
}
# Commands that came later than the oldest version that is moved from (6.0).
SINCE = {"GETDEL": (6, 2)}
# What a command whose reply was lost may have answered.
POSSIBLE = {"SPOP": lambda have: sorted(have or [])}


def setup(port, accounts, each):
    """What is there before anybody begins."""
    conn = redis.Redis(port=port)
    for account in accounts:
        conn.set(account, each)
    conn.close()
