"""What the scenarios stand on: sender, agent and far side as processes of their own, and what is read of them.

The program is the one that MOBULA_BIN names, else that of build/release; sender (bench/load/blast) and far side
(bench/load/http_sink) are those of the same build.
"""
import argparse
import contextlib
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "e2e"), os.path.join(ROOT, "tests", "support")]
from mobula import BINARY, Daemon, Mobula, free_port, wait_for  # noqa: E402  pylint: disable=wrong-import-position

BUILD = os.path.abspath(os.path.join(os.path.dirname(BINARY), "..", ".."))


class Tool:
    """A program of bench/load, told what to do in lines and answering in JSON."""

    def __init__(self, name, *arguments):
        command = [os.path.join(BUILD, "bench", "load", name), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"{self.process.args} ended with {self.process.wait()}"
        answer = json.loads(line)
        assert "error" not in answer, (self.process.args, answer)
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Sink(Tool):
    """The far side: takes everything after `delay` ms, until told otherwise; `tls` is a certificate and its key."""

    def __init__(self, delay=2, tls=()):
        self.port = free_port()
        self.scheme = "https" if tls else "http"
        super().__init__("http_sink", self.port, delay, *tls)
        self.answer()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def backend(self, **more):
        return {"type": "xray", "region": "us-east-1", "endpoint": self.url, **more}

    def state(self):
        return self.tell("state")

    def missing(self, end, beginning=0):
        """Numbers that did not arrive, of those below `end`."""
        return expand(self.tell("missing", beginning, end))

    def has_all(self, end):
        """Whether all numbers below `end` arrived."""
        return not self.tell("missing", 0, end)

    def latency(self):
        """Of the documents sent in each tenth of a second: ms since 1970, how many, median, 99th percentile, longest (ms)."""
        return self.tell("latency")


class Sender(Tool):
    """Sends numbered documents to a port of this machine, at the rate it is told."""

    def __init__(self, port, size=700):
        super().__init__("blast", port, size)

    def rate(self, datagrams_per_second, count=1 << 60):
        """From now on, until `count` more were sent."""
        return self.tell("rate", datagrams_per_second, count)

    def burst(self, count):
        return self.tell("burst", count)

    def state(self):
        return self.tell("state")

    def refused(self):
        """Numbers of the datagrams that nobody listened for."""
        return expand(self.tell("refused"))


def expand(ranges):
    return {number for begin, end in ranges for number in range(begin, end)}


class Agent(Mobula):
    """The agent as the scenarios run it: 24 MiB of buffer, and a log that does not cost."""

    def __init__(self, folder, backend, memory="24MiB", spool=None, **sections):
        buffer = {"memory": memory, **({"spool": spool} if spool else {})}
        sections = {"log": {"format": "json", "level": "info"}, **sections}
        super().__init__(folder, {"far": backend}, buffer=buffer, **sections)

    @property
    def pid(self):
        return self.process.pid


def own_mounts(command):
    """A prefix that gives a process mounts of its own, made by a shell `command`; they go when it ends. Needs root."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", command + ' && exec "$@"', "sh")


def among_mounts_of(pid, command):
    """Runs a shell `command` that sees the mounts of a process."""
    subprocess.run(["nsenter", f"--mount=/proc/{pid}/ns/mnt", "sh", "-c", command], check=True, timeout=60)


class Box:
    """Limits of memory and CPU for one process, by control groups of either version; needs root. `prefix` puts a command
    into it."""

    ROOT = "/sys/fs/cgroup"

    def __init__(self, memory_mib, cpus):
        name = f"mobula-{os.getpid()}"
        self.v2 = os.path.exists(f"{self.ROOT}/cgroup.controllers")
        self.memory = f"{self.ROOT}/{name}" if self.v2 else f"{self.ROOT}/memory/{name}"
        self.cpu = self.memory if self.v2 else f"{self.ROOT}/cpu/{name}"
        self.settings = {self.memory: {}, self.cpu: {}}
        if self.v2:
            write(f"{self.ROOT}/cgroup.subtree_control", "+memory +cpu")
            self.settings[self.memory]["memory.max"] = memory_mib << 20
            self.settings[self.memory]["memory.swap.max"] = 0
            self.settings[self.cpu]["cpu.max"] = f"{int(cpus * 100000)} 100000"
        else:
            self.settings[self.memory]["memory.limit_in_bytes"] = memory_mib << 20
            self.settings[self.cpu]["cpu.cfs_quota_us"] = int(cpus * 100000)
        put_in = "".join(f"echo $$ > {directory}/cgroup.procs && " for directory in self.settings)
        self.prefix = ("sh", "-c", put_in + 'exec "$@"', "sh")

    def __enter__(self):
        for directory, settings in self.settings.items():
            os.mkdir(directory)
            for name, value in settings.items():
                write(f"{directory}/{name}", value)
        return self

    def __exit__(self, *_):
        for directory in self.settings:
            wait_for(lambda path=directory: not read(f"{path}/cgroup.procs"), f"{directory} to be empty")
            os.rmdir(directory)

    def oom_kills(self):
        return self._count(f"{self.memory}/memory.{'events' if self.v2 else 'oom_control'}", "oom_kill")

    def throttled(self):
        """Periods in which it was held back, all periods, seconds held back."""
        stat = f"{self.cpu}/cpu.stat"
        seconds = self._count(stat, "throttled_usec") / 1e6 if self.v2 else self._count(stat, "throttled_time") / 1e9
        return self._count(stat, "nr_throttled"), self._count(stat, "nr_periods"), seconds

    def peak_mib(self):
        """The most it was charged with: memory of the process, files in the page cache, the kernel's buffers."""
        return int(read(f"{self.memory}/memory.{'peak' if self.v2 else 'max_usage_in_bytes'}")) / (1 << 20)

    @staticmethod
    def _count(path, name):
        return int(re.search(rf"^{name} (\d+)", read(path), re.MULTILINE).group(1))


def write(path, value):
    with open(path, "w", encoding="ascii") as f:
        f.write(str(value))


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read()


# --- what is read of a process, and of the machine ----------------------------------------------------------

def cpu_seconds(pid):
    """User and system, all threads that live."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(read(path).split()[0])
    return total / 1e9


def resident_mib(pid, key="VmRSS"):
    return int(re.search(rf"{key}:\s+(\d+)", read(f"/proc/{pid}/status")).group(1)) / 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def kernel_drops(port):
    """Datagrams dropped before the sockets of a UDP port that are open now, by the kernel's own count."""
    return sum(int(fields[-1]) for fields in udp_sockets(port))


def kernel_queue(port):
    """Bytes that the kernel charges for what waits in those sockets."""
    return sum(int(fields[4].split(":")[1], 16) for fields in udp_sockets(port))


def udp_sockets(port):
    """The fields of /proc/net/udp and udp6, of the sockets of a port."""
    lines = [line.split() for name in ("udp", "udp6") for line in read(f"/proc/net/{name}").splitlines()[1:]]
    return [fields for fields in lines if int(fields[1].rsplit(":", 1)[1], 16) == port]


class Neighbours:
    """How many cores were busy with what is not ours since this was made: a figure taken beside others says so."""

    def __init__(self):
        self.begin, self.busy, self.own = time.monotonic(), _busy_seconds(), _own_seconds()

    def cores(self, *pids):
        ours = _own_seconds() - self.own + sum(cpu_seconds(pid) for pid in pids)
        return max(0.0, (_busy_seconds() - self.busy - ours) / (time.monotonic() - self.begin))


def _busy_seconds():
    user, nice, system, _, _, irq, softirq, steal = map(int, read("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# --- what the scenarios have in common ------------------------------------------------------------------------

def everything_arrives(sink, sender, lost=0, quiet=30):
    """Waits until all that was sent, but for `lost`, has arrived, or nothing has come for `quiet` seconds. True: all of it."""
    sent = sender.state()
    want, last, since = sent["next"] - sent["refused"] - lost, -1, time.monotonic()
    while True:
        unique = sink.state()["unique"]
        if unique >= want:
            return True
        if unique != last:
            last, since = unique, time.monotonic()
        if time.monotonic() - since > quiet:
            return False
        time.sleep(0.1)


def parser(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--json", metavar="FILE", help="write every result to this file")
    return p


def folder():
    """A place for one run, that anybody may enter."""
    @contextlib.contextmanager
    def made():
        with tempfile.TemporaryDirectory(prefix="mobula-") as path:
            os.chmod(path, 0o755)
            yield path
    return made()


class Table:
    """Rows of results, printed as Markdown while they come. `columns`: title -> what a result says there."""

    def __init__(self, columns):
        self.columns, self.results = columns, []
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)

    def add(self, result):
        self.results.append(result)
        print("| " + " | ".join(str(text(result)) for text in self.columns.values()) + " |", flush=True)

    def end(self, path):
        """Writes the file of --json; the exit status: 1 when a result is not `ok`."""
        if path:
            with open(path, "w", encoding="utf-8") as f:
                json.dump(self.results, f, indent=1)
        return 0 if all(result["ok"] for result in self.results) else 1
