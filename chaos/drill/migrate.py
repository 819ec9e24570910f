#!/usr/bin/env python3
"""The move off Redis as a drill: a source under load, all phases forward, back from each, and forward again.

    migrate.py --meridian PATH [--source redis-server] [--seconds 40] [--seed 1] [--cores 2] [--go PATH]
               [--kill meridian|source|link --rounds 10] [--old-side replica|written] [--plant fence]

Without --kill no error of a client is excused but READONLY for those who write straight to a source that has not the authority
any more (of a Redis before 6.2 also NOREPLICAS, while it is fenced). With it, one of the two processes (or the link between them) ends at random moments in random phases and is started again.
With --old-side written the source is never a replica: what came of each write is written to it, and clients that write straight to it are
a user that is barred there while it has not the authority.
The clients' records are the judge (load.py); both sides are compared at the end. Prints the longest pause that any client saw.
With --plant the flip is lied to (liar.py): both sides take writes then, and it is an error if the records do not show it.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import redis

import liar
import load

POSITION = b"meridian:migration:position"
# How exactly the deadlines of a Redis before 7.0 are known, ms.
ABOUT_MS = 2000
PHASES = ["attach", "front", "verify", "reverse"]


def free_port():
    """A port with nothing on it, below those that the kernel gives to outgoing connections: a server that is down for a moment finds
    its own free again."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def version_of(program):
    """Major and minor version of a redis-server."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    found = re.search(r"v=(\d+)\.(\d+)", told)
    if not found:
        raise SystemExit(f"{program} does not say its version: {told}")
    return int(found[1]), int(found[2])


class Server:
    """A process of ours on a port."""

    def __init__(self, name, command, port, folder):
        self.name, self.command, self.port, self.folder = name, command, port, folder
        self.process = None

    def start(self, killed=0):
        """Starts it, and waits until it answers; one that was killed is tried so many times more."""
        killed -= 1
        log = open(os.path.join(self.folder, self.name + ".out"), "ab")
        self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)
        log.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                redis.Redis(port=self.port, socket_timeout=5).ping()
                return
            except redis.RedisError:
                if self.process.poll() is not None:
                    if killed <= 0:
                        break
                    # (The kernel lets go of the sockets of a process that was killed a moment later than of the process.)
                    time.sleep(0.1)
                    return self.start(killed)
                time.sleep(0.05)
        raise SystemExit(f"{self.name} does not start: see {self.folder}")

    def kill(self):
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """The end of the drill."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


def read_all(conn):
    """Every key with its type, value and deadline (ms; of a Redis before 7.0, which tells only what is left, about)."""
    tells = int(conn.info("server")["redis_version"].split(".")[0]) >= 7
    keys = sorted(set(conn.scan_iter(count=1000)) - {POSITION})
    found = {}
    readers = {
        b"string": lambda pipe, key: pipe.get(key),
        b"list": lambda pipe, key: pipe.lrange(key, 0, -1),
        b"hash": lambda pipe, key: pipe.hgetall(key),
        b"set": lambda pipe, key: pipe.smembers(key),
        b"zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
        b"stream": lambda pipe, key: pipe.xrange(key),
    }
    for at in range(0, len(keys), 1000):
        part = keys[at:at + 1000]
        pipe = conn.pipeline(transaction=False)
        for key in part:
            pipe.type(key)
            pipe.execute_command("PEXPIRETIME" if tells else "PTTL", key)
        told = pipe.execute()
        kinds, deadlines = told[::2], told[1::2]
        if not tells:
            deadlines = [1000 * time.time() + left if left > 0 else left for left in deadlines]
        pipe = conn.pipeline(transaction=False)
        for key, kind in zip(part, kinds):
            readers.get(kind, readers[b"string"])(pipe, key)
        for key, kind, deadline, value in zip(part, kinds, deadlines, pipe.execute()):
            if kind != b"none":
                found[key] = (kind, deadline, value)
    return found


def differences(ours, theirs):
    """Keys that are not the same on both sides."""
    here, there = read_all(ours), read_all(theirs)

    def same(key):
        (kind, deadline, value), (kind2, deadline2, value2) = here[key], there[key]
        is_exact = isinstance(deadline, int) and isinstance(deadline2, int)
        near = deadline == deadline2 if is_exact else abs(deadline - deadline2) < ABOUT_MS
        return near and (kind, value) == (kind2, value2)

    return [key for key in sorted(here.keys() | there.keys()) if not (key in here and key in there and same(key))]


class Drill:
    """Source, Meridian, load, and the operator's commands."""

    def __init__(self, args):
        self.args, self.random = args, random.Random(args.seed)
        self.folder = tempfile.mkdtemp(prefix="migrate-drill-")
        self.source_port, self.port, self.admin = free_port(), free_port(), free_port()
        conf = os.path.join(self.folder, "source.conf")
        folder = os.path.join(self.folder, "source")
        os.mkdir(folder)
        with open(conf, "w", encoding="utf-8") as out:
            out.write(f"port {self.source_port}\ndir {folder}\nsave \"\"\nappendonly yes\nappendfsync always\n"
                      "repl-backlog-size 64mb\nrepl-diskless-sync-delay 0\n"
                      + ("user app on nopass ~* &* +@all\n" if args.old_side == "written" else ""))
        self.source = Server("source", [args.source, conf], self.source_port, self.folder)
        mine = os.path.join(self.folder, "meridian")
        os.mkdir(mine)
        command = [args.meridian, "--port", str(self.port), "--admin-port", str(self.admin), "--cores", str(args.cores), "--dir", mine,
                   "--save", "", "--appendonly", "yes", "--appendfsync", args.appendfsync, "--enable-debug-command", "yes",
                   "--logfile", ""]
        self.source_version = version_of(args.source)
        # What lies is slow; and a Redis before 6.2 asks a new primary once a second.
        longest_ms = 2000 if args.plant else 1500 if self.source_version < (6, 2) else None
        if longest_ms:
            command += ["--migrate-pause-max-ms", str(longest_ms)]
        self.meridian = Server("meridian", command, self.port, self.folder)
        # What Meridian is told to be the source's address.
        self.said_port = self.source_port
        if args.plant:
            self.said_port = free_port()
            liar.Liar(self.said_port, self.source_port, self.port)
        self.pauses, self.go_load = [], None

    def migrate(self, *words, check=True):
        """`meridian migrate ...` as an operator types it: its JSON."""
        command = [self.args.meridian, "migrate", *words, "--admin", f"127.0.0.1:{self.admin}", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr.strip()}

    def phase(self):
        """The phase that the server says it is in; None while it does not answer."""
        try:
            return self.migrate("status", check=True)["phase"]
        except (SystemExit, KeyError, json.JSONDecodeError, subprocess.TimeoutExpired):
            return None

    def wait_phase(self, wanted, seconds=60):
        """Waits until the server is in a phase."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.phase() == wanted:
                return
            time.sleep(0.05)
        raise SystemExit(f"phase {wanted} is not reached: {self.migrate('status', check=False)}")

    def go(self, word, wanted, *more):
        """One step of the operator (and what else it is told), with the longest wait of any client during it."""
        begin = time.monotonic()
        before = self.phase()
        deadline = begin + 60
        while True:
            answer = self.migrate(word, *more, check=False)
            if self.phase() == wanted:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"{word} does not lead to {wanted}: {answer}")
            time.sleep(0.2)
        end = time.monotonic()
        time.sleep(0.3)
        pause = self.world.longest_between(begin, end)
        told = self.migrate("status", check=False).get("pause_us") if {wanted, before} & {"reverse"} else None
        self.pauses.append((f"{word} to {wanted}", pause))
        print(f"  {word:>8} to {wanted:<8} took {1e3 * (end - begin):7.0f} ms, longest wait of a client {1e3 * pause:6.1f} ms"
              + (f", nobody was served for {told / 1e3:.1f} ms" if told else ""), flush=True)

    def load(self):
        """The application."""
        accounts = [f"account:{i}" for i in range(8)]
        load.setup(self.source_port, accounts, 1000)
        user = "app" if self.args.old_side == "written" else None
        world = load.World(self.port, self.source_port, self.args.seed, source_user=user, version=self.source_version)
        self.world = world
        self.counters = [load.Counter(world, f"counter{i}") for i in range(2)]
        self.direct = [load.Direct(world, f"direct{i}") for i in range(2)]
        self.producers = [load.Producer(world, f"producer{i}", "queue") for i in range(2)]
        self.consumers = [load.Consumer(world, f"consumer{i}", "queue") for i in range(3)]
        self.lockers = [load.Locker(world, f"locker{i}") for i in range(3)]
        self.others = [load.Transfer(world, "script", accounts, True), load.Transfer(world, "watch0", accounts, False),
                       load.Transfer(world, "watch1", accounts, False), load.Auditor(world, "auditor", accounts, 8000),
                       load.Expirer(world, "expirer")] + [load.Model(world, f"model{i}") for i in range(3)]
        return self.counters + self.producers + self.consumers + self.lockers + self.others

    def start_go(self):
        """The part of the load that speaks through go-redis."""
        if self.args.go:
            self.go_load = subprocess.Popen([self.args.go, "--addr", f"127.0.0.1:{self.port}"], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True)

    def stop_go(self):
        """Ends it, and takes its record over."""
        if self.go_load is None:
            return
        try:
            told, _ = self.go_load.communicate("", timeout=60)
            record = json.loads(told)
        except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            self.go_load.kill()
            self.world.violate("go-redis", f"no record: {error}")
            return
        for what in record["violations"]:
            self.world.violate("go-redis", what)
        for text, count in record["errors"].items():
            self.world.errors[f"go-redis: {text}"] = (count, "go-redis")
        self.world.acknowledged += record["acknowledged"]
        print(f"  go-redis: {record['acknowledged']} acknowledged, longest wait {record['longest_ms']:.1f} ms")

    def begin(self):
        """Starts everything; before the front there are clients at the source only."""
        self.source.start()
        through = self.load()
        filler = redis.Redis(port=self.source_port)
        pipe = filler.pipeline(transaction=False)
        for i in range(self.args.keys):
            pipe.set(f"filler:{i}", "x" * 64)
            if i % 1000 == 999:
                pipe.execute()
        pipe.execute()
        self.world.start(self.direct)
        self.meridian.start()
        return through

    def report(self):
        """The end: what is there is compared with the records, and both sides with each other."""
        self.stop_go()
        self.world.stop()
        final = redis.Redis(port=self.port, socket_timeout=30)
        for worker, _ in self.world.workers:
            worker.judge(final)
        load.judge_queue(self.world, "queue", self.producers, self.consumers, final)
        load.judge_locks(self.world, self.lockers)
        old = redis.Redis(port=self.source_port, socket_timeout=30)
        deadline = time.monotonic() + 20
        while True:
            differing = differences(final, old)
            if not differing:
                break
            if time.monotonic() > deadline:
                self.world.violate("both sides", f"{len(differing)} keys differ: {differing[:5]}")
                break
            time.sleep(0.5)
        excused = ("read only replica", "no permissions") if self.args.kill == "none" else ("",)
        for text, (count, first) in sorted(self.world.errors.items()):
            print(f"  {count:6} {text} (first: {first})")
            # (Before 6.2 the fence is min-replicas-to-write: whoever writes there is told.)
            is_fence = self.source_version < (6, 2) and "NOREPLICAS" in text and "direct" in first
            if not is_fence and not any(word in text for word in excused):
                self.world.violate("errors", f"{count} of {text}, first {first}")
        fence = old.config_get("min-replicas-to-write")["min-replicas-to-write"]
        if int(fence):
            self.world.violate("the fence", f"min-replicas-to-write is {fence} at the old Redis")
        written = self.migrate("status", check=False).get("written")
        if written:
            print("  written there: {transactions} transactions, {restated} keys said again, {failed} requests failed, {strays} writes of others"
                  .format(**written))
            if written["strays"] or written["failed"]:
                self.world.violate("the old side", f"writes of others or failures: {written}")
        copies = [conn.info("stats") for conn in (old, final)]
        print("  the old Redis gave {} copies and {} resumes, this server {} and {}".format(
            *(told[name] for told in copies for name in ("sync_full", "sync_partial_ok"))))
        seconds, _, who = self.world.longest
        print(f"{self.world.acknowledged} commands acknowledged; the longest wait was {1e3 * seconds:.1f} ms, of {who}")
        for what in self.world.violations[:40]:
            print("VIOLATION", what)
        return 1 if self.world.violations else 0

    def found(self):
        """The end with a planted fault: what the clients of both sides were promised must be found broken."""
        self.stop_go()
        self.world.stop()
        self.world.violations.clear()
        final = redis.Redis(port=self.port, socket_timeout=30)
        for worker in self.direct:
            worker.judge(final)
        for what in self.world.violations[:5]:
            print("found, as it was planted:", what)
        if not self.world.violations:
            print("VIOLATION nothing was found, though both sides took writes")
            return 1
        return 0

    def rest(self):
        """The load goes on for a while in the phase it is in."""
        time.sleep(self.args.seconds / 12)

    def forward(self, until="reverse"):
        """All phases from the present one."""
        phase = self.phase()
        for wanted in PHASES[PHASES.index(phase) + 1:]:
            self.go("advance", wanted)
            self.rest()
            if wanted == until:
                break

    def hurt(self, delay):
        """Ends a process, or the link, after so many seconds; it is started again at once."""
        time.sleep(delay)
        if self.args.kill == "link" and self.args.old_side == "written":
            conn = redis.Redis(port=self.source_port, socket_timeout=5)
            try:
                for client in conn.client_list():
                    if client.get("name") == "meridian-migrate" or client.get("flags") == "S":
                        conn.client_kill_filter(_id=client["id"])
            except redis.RedisError:
                pass
            return
        if self.args.kill == "link":
            conn = redis.Redis(port=self.random.choice([self.source_port, self.port]), socket_timeout=5)
            try:
                conn.execute_command("CLIENT", "KILL", "TYPE", "replica")
            except redis.RedisError:
                pass
            return
        server = self.meridian if self.args.kill == "meridian" else self.source
        server.kill()
        time.sleep(self.random.random() * 0.3)
        server.start(10)

    def rounds(self):
        """Forward to the end and back again and again, hurt while an order of the operator is carried out or afterwards; the move goes on
        from whatever has come of it."""
        heads = "advance"
        ends = {"flips": 0, "ways back": 0}
        for number in range(self.args.rounds):
            phase = self.settled()
            # (Clients are here: behind the front there is only a replica, which refuses them.)
            if phase in ("front", "reverse"):
                heads = "advance" if phase == "front" else "back"
            word = self.random.choice([heads, heads, heads, ""])
            if word:
                self.ready(phase)
            # (Not every round waits for a whole comparison before the flip.)
            words = [word, "--force"] if word == "advance" and phase == "verify" else [word]
            # Half of them while the order is carried out, which takes some tens of milliseconds.
            delay = self.random.choice([0.12, 2]) * self.random.random()
            hurting = threading.Thread(target=self.hurt, args=(delay,))
            hurting.start()
            answer = {}
            if word:
                try:
                    answer = self.migrate(*words, check=False)
                except (json.JSONDecodeError, subprocess.TimeoutExpired):
                    pass
            hurting.join()
            after = self.settled()
            ends["flips"] += phase == "verify" and after == "reverse"
            ends["ways back"] += phase == "reverse" and after == "verify"
            print(f"  {time.strftime('%T')} round {number}: {phase} {word or 'stays'}, hurt after {1e3 * delay:.0f} ms -> {after}  "
                  f"{str(answer.get('error', ''))[:90]}", flush=True)
        print(f"  {ends['flips']} flips and {ends['ways back']} ways back in {self.args.rounds} rounds", flush=True)

    def ready(self, phase):
        """Waits until an order would be taken: the link is up, or the old Redis follows; for a while, since it may have been hurt."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                status = self.migrate("status", check=False)
                if phase == "reverse":
                    first = redis.Redis(port=self.port, socket_timeout=5).info("replication").get("slave0", {})
                    log = redis.Redis(port=self.source_port, socket_timeout=5).info("persistence")
                    writes_anew = log["aof_rewrite_in_progress"] or log["aof_rewrite_scheduled"]
                    if first.get("state") == "online" and first.get("offset") and not writes_anew:
                        return
                elif status.get("link", {}).get("follows"):
                    return
            except (json.JSONDecodeError, subprocess.TimeoutExpired, redis.RedisError):
                pass
            time.sleep(0.05)

    def settled(self):
        """The phase once the server is up, its link stands, and nothing is in between."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                status = self.migrate("status", check=False)
                if status.get("phase") and not status.get("open") and not status.get("step"):
                    return status["phase"]
            except (json.JSONDecodeError, subprocess.TimeoutExpired):
                pass
            time.sleep(0.1)
        raise SystemExit(f"nothing is settled: {self.migrate('status', check=False)}")

    def run(self):
        """Forward, back from each phase, and forward again."""
        through = self.begin()
        print(self.migrate("plan", f"127.0.0.1:{self.said_port}", check=False).get("verdict", ""))
        way = ["--announce", f"127.0.0.1:{self.port}"]
        if self.args.old_side == "written":
            way = ["--old-side", "written", "--bar-users", "app"]
        self.migrate("start", f"127.0.0.1:{self.said_port}", *way)
        self.wait_phase("attach")
        self.rest()
        self.go("advance", "front")
        self.world.start(through)
        self.start_go()
        self.rest()
        if self.args.plant:
            # (Nothing is to be found by the comparison, and its way through the go-between is slow.)
            self.go("advance", "verify")
            self.go("advance", "reverse", "--force")
            self.rest()
            return self.found()
        if self.args.kill != "none":
            if self.args.old_side == "written":
                # (What is new with it begins behind the flip.)
                self.forward()
            self.rounds()
            self.forward()
            return self.report()
        self.go("advance", "verify")
        self.rest()
        self.go("back", "front")
        self.go("advance", "verify")
        self.go("advance", "reverse")
        self.rest()
        self.go("back", "verify")
        self.rest()
        self.go("advance", "reverse")
        self.rest()
        return self.report()

    def end(self, status):
        """Ends the processes; what they wrote stays when something went wrong."""
        self.meridian.stop()
        self.source.stop()
        if status == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"what the servers wrote is in {self.folder}")


def main():
    """See the module's head."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--meridian", required=True)
    parser.add_argument("--source", default="redis-server")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--keys", type=int, help="beside those of the load; with --plant few, as its go-between reads them all, slowly")
    parser.add_argument("--go", help="the built program of go/main.go")
    parser.add_argument("--appendfsync", default="everysec")
    parser.add_argument("--rounds", type=int, default=10, help="with --kill")
    parser.add_argument("--old-side", choices=["replica", "written"], default="replica")
    parser.add_argument("--plant", choices=["fence"])
    parser.add_argument("--kill", choices=["none", "meridian", "source", "link"], default="none")
    args = parser.parse_args()
    if args.keys is None:
        args.keys = 1000 if args.plant else 20000
    drill = Drill(args)
    status = 1
    try:
        status = drill.run()
    finally:
        drill.end(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
