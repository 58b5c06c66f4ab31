"""What the end-to-end tests stand on: start and stop the program, send datagrams, read the far side and the ledger."""
import collections
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BINARY = os.environ.get("MOBULA_BIN", os.path.join(ROOT, "build", "release", "engine", "main", "mobula"))
# A sanitized program is several times slower: bounds on time are stretched, not the expectations.
SANITIZED = "asan" in BINARY or "tsan" in BINARY
PATIENCE = 5 if SANITIZED else 1
HEADER = b'{"format": "json", "version": 1}\n'
# The id and secret of the access key that the program is given.
KEY = ("AKIDEXAMPLE", "example/secret+key")
REGION = "us-west-2"
CAPTURES = os.path.join(ROOT, "tests", "data", "captures")
CACHE = os.path.join(ROOT, ".cache")
LANGUAGES = ("python", "node", "java", "go")


def sdk_program(language, name):
    """The command and the environment of a program of this folder that uses a real X-Ray SDK (tools/setup --test)."""
    here = os.path.join(ROOT, "tests", "e2e", language)
    if language == "python":
        return [sys.executable, os.path.join(here, name + ".py")], {}
    if language == "node":
        return ["node", os.path.join(here, name + ".js")], {"NODE_PATH": os.path.join(CACHE, "node", "node_modules")}
    if language == "java":
        jars = os.path.join(CACHE, "java", "lib", "*")
        return ["java", "-Xmx128m", "-Dfile.encoding=UTF-8", "-cp", jars, os.path.join(here, name.capitalize() + ".java")], {}
    return [os.path.join(CACHE, "go", name)], {}


def captures():
    """Every captured SDK datagram, by file name."""
    found = {}
    for name in sorted(os.listdir(CAPTURES)):
        if name.endswith(".bin"):
            with open(os.path.join(CAPTURES, name), "rb") as f:
                found[name] = f.read()
    assert len(found) > 100, f"only {len(found)} captures in {CAPTURES}"
    return found


def segment(**members):
    """A small valid document with ids of its own, as bytes."""
    now = time.time()
    document = {"trace_id": "1-%08x-%s" % (int(now), os.urandom(12).hex()), "id": os.urandom(8).hex(), "name": "e2e",
                "start_time": round(now - 0.1, 3), "end_time": round(now, 3), **members}
    return json.dumps(document, separators=(",", ":")).encode()


def free_port():
    """Free for UDP and TCP, and outside the range the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(15000, 32000)
        with contextlib.suppress(OSError):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.bind(("127.0.0.1", port))
            return port


def wait_for(condition, what, seconds=10):
    """The first true answer of `condition`; fails after `seconds` with what `what`, a text or a function, says."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * PATIENCE} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def read_lines(path):
    """The documents of a JSON-lines file, as bytes; a last line without its end is still being written."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        return f.read().split(b"\n")[:-1]


def read_framed(path):
    """The documents of a framed file, byte for byte (docs/wire/file.md)."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        data = f.read()
    magic, documents = b"mobula-framed 1\n", []
    if len(data) < len(magic):
        return []
    assert data.startswith(magic), data[:20]
    at = len(magic)
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        if at + 4 + size > len(data):
            break
        documents.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return documents


def same_documents(got, sent):
    """Each document once, and none that was not sent."""
    missing = collections.Counter(sent) - collections.Counter(got)
    extra = collections.Counter(got) - collections.Counter(sent)
    assert not missing, f"{sum(missing.values())} of {len(sent)} missing, e.g. {next(iter(missing))[:300]!r}"
    assert not extra, f"{sum(extra.values())} too many, e.g. {next(iter(extra))[:300]!r}"


class Mobula:
    """The program with a configuration of its own, in a folder of its own.

        with Mobula(tmp_path, backends={"out": {"type": "file", "path": "out.jsonl"}}) as m:
            m.send(segment())
            m.settled(1)

    A variable of `environment` that is None is not there. `prefix` is a command that ends in executing the program.
    """

    def __init__(self, folder, backends, start=True, environment=None, program=BINARY, prefix=(), arguments=(), **sections):
        self.folder, self.port, self.admin = str(folder), free_port(), free_port()
        self.command, self.arguments = (*prefix, program), tuple(arguments)
        given = {**os.environ, "AWS_ACCESS_KEY_ID": KEY[0], "AWS_SECRET_ACCESS_KEY": KEY[1], "AWS_REGION": "us-east-1",
                 **(environment or {})}
        self.environment = {name: value for name, value in given.items() if value is not None}
        udp = sections.pop("udp", {})
        self.config = {"receivers": {"udp": {"address": f"127.0.0.1:{self.port}", **udp}}, "backends": backends,
                       "admin": {"address": f"127.0.0.1:{self.admin}"}, "log": {"format": "json", "level": "debug"}, **sections}
        self.config_path = os.path.join(self.folder, "mobula.yaml")
        self.write_config()
        self.log_path, self.starts = None, 0
        self.tls, self.token = None, None
        self.process, self.sent = None, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", self.port))
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        self.socket.close()
        if kind and self.log_path:
            print(self.log[-6000:])

    def write_config(self):
        with open(self.config_path, "w", encoding="utf-8") as f:
            json.dump(self.config, f)

    # life ---------------------------------------------------------------------------------------------------
    def launch(self, **process):
        """Starts it, with a log of this start's own; `process` as for Popen."""
        self.starts += 1
        self.log_path = os.path.join(self.folder, f"stderr-{self.starts}.txt")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.command, "run", "-c", self.config_path, *self.arguments], cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                                            **process)

    def start(self, **process):
        """The same, and waits until it is ready."""
        self.launch(**process)
        wait_for(lambda: self.process.poll() is not None or self.ready(), lambda: f"readiness; it said {self.log[-2000:]}")
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log[-2000:]}"

    def stop(self, number=signal.SIGTERM, seconds=30):
        """Ends it and checks the end: status 0, a final ledger that balances. Returns that ledger."""
        self.process.send_signal(number)
        status = self.process.wait(seconds * PATIENCE)
        assert status == 0, f"exit status {status}: {self.log[-2000:]}"
        ledger = self.final_ledger()
        check_balance(ledger)
        assert not self.events("ledger_bug"), self.events("ledger_bug")
        return ledger

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def events(self, name):
        """The log lines of one event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    # admin --------------------------------------------------------------------------------------------------
    def get(self, path, headers=None):
        """(status, body) of one of the admin pages: over TLS with `tls`, a context, and with `token` if there is one."""
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.admin, timeout=10, context=self.tls)
        known = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request("GET", path, headers={**known, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ready(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/readyz")[0] == 200
        return False

    def metric(self, name, **labels):
        """The value of one sample of the metrics page; None when there is none."""
        label = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{name}{label} "):
                return float(line.rsplit(" ", 1)[1])
        return None

    def ledger(self):
        status, body = self.get("/ledger")
        assert status == 200, (status, body)
        return json.loads(body)

    def final_ledger(self):
        lines = self.events("ledger")
        assert len(lines) == 1, f"{len(lines)} final ledgers in {self.log[-2000:]}"
        return lines[0]["ledger"]

    # traffic ------------------------------------------------------------------------------------------------
    def datagram(self, data):
        self.socket.send(data)
        self.sent += 1

    def send(self, *documents, rate=20000):
        """Documents, each behind the header in a datagram of its own, at no more than `rate` a second."""
        begin = time.monotonic()
        for i, document in enumerate(documents):
            self.datagram(HEADER + document)
            ahead = i / rate - (time.monotonic() - begin)
            if ahead > 0.002:
                time.sleep(ahead)

    def play(self, file, rate):
        """A file by `mobula send`, which keeps rates that Python cannot: its result."""
        ran = subprocess.run([BINARY, "send", str(file), "--to", f"127.0.0.1:{self.port}", "--rate", str(rate), "--json"],
                             stdout=subprocess.PIPE, check=True, timeout=120)
        result = json.loads(ran.stdout)
        self.sent += result["sent"]
        return result

    def settled(self, datagrams=None, lanes=None, seconds=15):
        """Waits until everything sent is received and no lane of `lanes` (all) holds anything; returns the ledger."""
        want = self.sent if datagrams is None else datagrams

        def at_rest():
            ledger = self.ledger()
            names = ledger["lanes"] if lanes is None else lanes
            at_rest.last = ledger
            # A datagram is counted when it is received, and a moment later again for what became of it.
            done = ledger["ingest"]["datagrams"] >= want and ledger["balanced"]
            open_documents = ledger["ingest"].get("open", 0)
            return done and not open_documents and all(ledger["lanes"][n]["held"] == 0 for n in names) and ledger

        return wait_for(at_rest, lambda: f"{want} datagrams at rest: {json.dumps(at_rest.last)}", seconds)


def clean_environment(**extra):
    """A clean environment with one static key, no metadata and no admin pages."""
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG") or k.endswith("SAN_OPTIONS")}
    env.update({"AWS_ACCESS_KEY_ID": KEY[0], "AWS_SECRET_ACCESS_KEY": KEY[1], "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "MOBULA_ADMIN_ADDRESS": "off"})
    env.update(extra)
    return {k: v for k, v in env.items() if v is not None}


class Daemon:
    """The program with a file of the daemon's in a folder of its own; `change` replaces keys of it, None drops one.
    `prefix` is a command that ends in executing the program.
    """

    def __init__(self, folder, program, xray, *flags, env=None, ready=True, change=None, text=None, file=True, prefix=()):
        self.folder, self.port = str(folder), free_port()
        at = f"127.0.0.1:{self.port}"
        settings = {"Version": 2, "Region": REGION, "LocalMode": True, "Endpoint": xray.url if xray else None,
                    "Socket": {"UDPAddress": at, "TCPAddress": at}, **(change or {})}
        self.config = os.path.join(self.folder, "daemon.yaml")
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(text.format(port=self.port, url=xray.url if xray else "") if text
                    else json.dumps({k: v for k, v in settings.items() if v is not None}))
        number = len([name for name in os.listdir(self.folder) if name.startswith("stdout")])
        self.paths = [os.path.join(self.folder, f"{name}-{number}") for name in ("stdout", "stderr")]
        with open(self.paths[0], "wb") as out, open(self.paths[1], "wb") as err:
            self.process = subprocess.Popen([*prefix, program, *(["-c", self.config] if file else []), *flags], cwd=self.folder,
                                            stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=clean_environment(**(env or {})))
        if ready:
            wait_for(lambda: self.process.poll() is not None or "Starting proxy http server" in self.log, lambda: self.log)
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if kind:
            print(self.log[-6000:])

    def _read(self, i):
        with open(self.paths[i], encoding="utf-8", errors="replace") as f:
            return f.read()

    out = property(lambda self: self._read(0))
    err = property(lambda self: self._read(1))
    log = property(lambda self: self.out + self.err)

    def send(self, *documents, header=HEADER, host="127.0.0.1"):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
            for document in documents:
                s.sendto(header + document, (host, self.port))

    def delivers(self, xray, count=3, **how):
        documents = [segment() for _ in range(count)]
        before = len(xray.documents)
        self.send(*documents, **how)
        wait_for(lambda: len(xray.documents) - before >= count, lambda: f"{count} documents; {self.log[-1000:]}")
        same_documents(xray.documents[before:], [d.decode() for d in documents])

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(30 * PATIENCE)

    def status(self):
        """Of one that ends by itself."""
        return self.process.wait(20 * PATIENCE)


def check_balance(ledger):
    """The ledger's own word, and the sums done again."""
    ingest = ledger["ingest"]
    assert ledger["balanced"] is True, ledger
    assert ingest["datagrams"] == ingest["accepted"] + sum(ingest["rejected"].values()), ingest
    for name, lane in ledger["lanes"].items():
        gone = lane["delivered"] + sum(lane["dropped"].values())
        assert lane["entered"] + lane["restored"] == gone + lane["held"] + lane["spooled"], (name, lane)


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
