"""A planted fault: between Meridian and its source, something that says the source follows Meridian, and leaves it a primary.

    Meridian ── what a source is asked ──> Liar ──> source
                CLIENT PAUSE                ──>     (nothing is written while the flip looks)
                REPLICAOF                    x      (answered OK, never passed on)
                PSYNC at the right place <── Liar   (so that the flip believes that the source follows)
                CLIENT UNPAUSE               x      (passed on once the flip has answered)

Two sides then take writes, and the clients' records must show it: what is acknowledged by the source after the flip is nowhere at the end.
"""

import socket
import threading
import time

ACK_SECONDS = 0.1


def read_words(file):
    """One request of the protocol with its bytes, or (None, b"") at the end."""
    line = file.readline()
    if not line.startswith(b"*"):
        return None, line
    raw, words = line, []
    for _ in range(int(line[1:])):
        length = file.readline()
        body = file.read(int(length[1:]) + 2)
        raw += length + body
        words.append(body[:-2])
    return words, raw


class Liar:
    """Listens on a port of its own, and lies as the module's head says."""

    def __init__(self, port, source_port, meridian_port):
        self.source_port, self.meridian_port = source_port, meridian_port
        self.lies = False
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        """Each connection has two threads."""
        while True:
            ours, _ = self.listener.accept()
            theirs = socket.create_connection(("127.0.0.1", self.source_port))
            # (Else each reply of two pieces waits 40 ms for an acknowledgement.)
            for sock in (ours, theirs):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lock = threading.Lock()
            threading.Thread(target=self.requests, args=(ours, theirs, lock), daemon=True).start()
            threading.Thread(target=self.replies, args=(ours, theirs, lock), daemon=True).start()

    def requests(self, ours, theirs, lock):
        """From Meridian to the source, but for what would fence it."""
        file = ours.makefile("rb")
        try:
            while True:
                words, raw = read_words(file)
                if not raw:
                    break
                answer = self.lie(words) if words else None
                if answer is None:
                    theirs.sendall(raw)
                else:
                    with lock:
                        ours.sendall(answer)
        except OSError:
            pass
        theirs.close()

    @staticmethod
    def replies(ours, theirs, lock):
        """The other way, as it is."""
        try:
            while True:
                data = theirs.recv(65536)
                if not data:
                    break
                with lock:
                    ours.sendall(data)
        except OSError:
            pass
        try:
            ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def lie(self, words):
        """The answer to what is not passed on; None for what is."""
        name = [word.upper() for word in words[:2]]
        if name == [b"CLIENT", b"UNPAUSE"] and self.lies:
            return b"+OK\r\n"
        if name[0] == b"REPLICAOF":
            # (A flip that is given up ends with NO ONE, and another may begin.)
            self.lies = words[1:] != [b"NO", b"ONE"]
            if self.lies:
                threading.Thread(target=self.follow, daemon=True).start()
                return b"+OK\r\n"
        if name == [b"INFO", b"REPLICATION"] and self.lies:
            text = self.ask("INFO", "replication")
            text = text.replace("role:master", f"role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:{self.meridian_port}")
            return b"$%d\r\n%s\r\n" % (len(text), text.encode())
        return None

    def ask(self, *words):
        """A request to the source; its reply as text, or as a line."""
        with socket.create_connection(("127.0.0.1", self.source_port)) as sock:
            sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words))
            file = sock.makefile("rb")
            line = file.readline()
            return file.read(int(line[1:])).decode() if line.startswith(b"$") else line.decode()

    def follow(self):
        """Asks Meridian as the source would if it followed, at the place where it stands while it is paused; then it takes writes again."""
        info = dict(line.split(":", 1) for line in self.ask("INFO", "replication").splitlines() if ":" in line)
        offset = int(info["master_repl_offset"])
        with socket.create_connection(("127.0.0.1", self.meridian_port)) as sock:
            def say(*words):
                sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

            def line():
                text = b""
                while not text.endswith(b"\n"):
                    byte = sock.recv(1)
                    if not byte:
                        break
                    text += byte
                return text

            for words in ([b"PING"], [b"REPLCONF", b"listening-port", str(self.source_port).encode()],
                          [b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]):
                say(*words)
                line()
            say(b"PSYNC", info["master_replid"].encode(), str(offset + 1).encode())
            answer = line()
            self.ask("CLIENT", "UNPAUSE")
            if not answer.startswith(b"+CONTINUE"):
                return
            sock.settimeout(ACK_SECONDS)
            read = 0
            while self.lies:
                try:
                    data = sock.recv(65536)
                    if not data:
                        return
                    read += len(data)
                except TimeoutError:
                    pass
                say(b"REPLCONF", b"ACK", str(offset + read).encode())
                time.sleep(0.01)
