#!/usr/bin/env python3
"""A long run under load with a fault every 20 seconds: nothing lost, the books exact, memory and descriptors flat.

    bench/scenarios/soak.py [--seconds 1800] [--every 20] [--json FILE]

10,000 documents a second to an agent with a buffer of 64 MiB and a spool; each fault lasts 5 seconds, first all of them once and
then in the order of --seed:

503 429 hang reset refused    of the far side, as in outages.py
slow                          it answers after 300 ms: fewer calls than the load needs
partial                       one document in three is answered as throttled
disk                          the spool's disk is full, and for one second the far side answers 503 (needs root)
hangup                        SIGHUP, each second
garbage                       datagrams that are cut off, empty, foreign or random, 500 a second

RSS is read each second. It counts as flat when a straight line through the readings since all faults were made once grows by
less than twice their scatter around it, or by less than 1 MiB. Descriptors are those that are no connections to the far
side, as they are before each fault.
"""
import math
import os
import random
import signal
import socket
import statistics
import sys
import threading
import time

import harness

HEADER = b'{"format": "json", "version": 1}\n'


class Garbage:
    """Datagrams that are to be refused, counted."""

    def __init__(self, port, seed):
        self.to, self.random, self.sent = ("127.0.0.1", port), random.Random(seed), 0

    def one(self):
        whole = HEADER + b'{"name":"cut off","id":"00000000000000aa","metadata":{"text":"' + b"x" * 400 + b'"}}'
        choose = self.random.randrange(5)
        return (whole[: self.random.randrange(40, len(whole))], b"", b"GET / HTTP/1.1\r\n\r\n", HEADER + b"[1,2,3]",
                b"\x00" + self.random.randbytes(self.random.randrange(1, 3000)).replace(b"\n", b" "))[choose]

    def send(self, seconds, rate=500):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            begin, count = time.monotonic(), int(seconds * rate)
            for i in range(count):
                s.sendto(self.one(), self.to)
                self.sent += 1
                time.sleep(max(0.0, begin + i / rate - time.monotonic()))


class Disk:
    """A small disk of the spool's own, seen by the agent alone."""

    def __init__(self, folder, mib=256):
        self.path = os.path.join(folder, "spool")
        os.mkdir(self.path)
        self.prefix = ()
        if os.geteuid() == 0:
            self.prefix = harness.own_mounts(f"mount -t tmpfs -o size={mib}m,mode=0700 spool {self.path}")

    def fill(self, agent):
        # dd ends with an error when there is no more room, as it shall.
        harness.among_mounts_of(agent.pid, f"dd if=/dev/zero of={self.path}/filler bs=64k 2> /dev/null || true")

    def empty(self, agent):
        harness.among_mounts_of(agent.pid, f"rm {self.path}/filler")


class Faults:
    """What goes wrong, by name. Each takes as long as it is told to, and leaves everything as it was."""

    def __init__(self, agent, sink, disk, garbage):
        self.agent, self.sink, self.disk = agent, sink, disk
        self.by_name = {name: lambda seconds, words=words: self.far_side(seconds, *words) for name, words in {
            "503": ("status", 503), "429": ("status", 429), "hang": ("hang",), "reset": ("reset",), "refused": ("refuse",),
            "partial": ("partial", 3)}.items()}
        self.by_name |= {"slow": self.slow, "hangup": self.hangup, "garbage": garbage.send}
        if disk.prefix:
            self.by_name["disk"] = self.full_disk

    def far_side(self, seconds, *words):
        self.sink.tell(*words)
        time.sleep(seconds)
        self.sink.tell("ok")

    def slow(self, seconds):
        self.sink.tell("delay", 300)
        time.sleep(seconds)
        self.sink.tell("delay", 2)

    def hangup(self, seconds):
        for _ in range(max(1, int(seconds))):
            self.agent.process.send_signal(signal.SIGHUP)
            time.sleep(1)

    def full_disk(self, seconds):
        self.disk.fill(self.agent)
        self.far_side(min(1, seconds / 2), "status", 503)
        time.sleep(seconds - min(1, seconds / 2))
        self.disk.empty(self.agent)


def line(points):
    """Slope of the line through the points, and how far they scatter around it."""
    xs, ys = zip(*points)
    slope, offset = statistics.linear_regression(xs, ys)
    return slope, math.sqrt(statistics.fmean((y - slope * x - offset) ** 2 for x, y in points))


class Watch(threading.Thread):
    """Reads RSS and descriptors each second, and that the agent lives."""

    def __init__(self, agent, sink):
        super().__init__(daemon=True)
        self.agent, self.sink, self.end, self.begin = agent, sink, threading.Event(), time.monotonic()
        self.resident = []

    def run(self):
        while not self.end.wait(1):
            self.resident.append((time.monotonic() - self.begin, harness.resident_mib(self.agent.pid)))


def run(folder, seconds, every=20, lasting=5, rate=10000, memory="64MiB", seed=1):
    """The whole run; what came of it."""
    choose, disk = random.Random(seed), Disk(folder)
    with harness.Sink() as sink:
        with harness.Agent(folder, sink.backend(), memory=memory, spool={"path": disk.path}, prefix=disk.prefix) as agent, \
                harness.Sender(agent.port) as sender:
            warm = math.inf
            garbage, neighbours, cpu = Garbage(agent.port, seed), harness.Neighbours(), harness.cpu_seconds(agent.pid)
            faults, watch = Faults(agent, sink, disk, garbage), Watch(agent, sink)
            plan, made, files, longest_hold = sorted(faults.by_name), [], [], 0
            choose.shuffle(plan)
            sender.rate(rate)
            watch.start()
            while time.monotonic() - watch.begin < seconds:
                round_begin = time.monotonic()
                if len(made) == len(plan):
                    warm = round_begin - watch.begin
                name = plan[len(made)] if len(made) < len(plan) else choose.choice(plan)
                files.append(harness.descriptors(agent.pid) - sink.state()["connections"])
                faults.by_name[name](lasting)
                made.append(name)
                held = agent.ledger()["lanes"]["far"]
                longest_hold = max(longest_hold, held["held"] + held["spooled"])
                time.sleep(max(0.0, round_begin + every - time.monotonic()))
            sender.rate(0)
            complete = harness.everything_arrives(sink, sender)
            agent.settled(sender.state()["next"] + garbage.sent)
            watch.end.set()
            watch.join()
            cpu, took = harness.cpu_seconds(agent.pid) - cpu, time.monotonic() - watch.begin
            files.append(harness.descriptors(agent.pid) - sink.state()["connections"])
            cores, bugs = neighbours.cores(agent.pid, sink.pid, sender.pid), agent.metric("mobula_ledger_bugs_total")
            peak, sent, arrived = harness.resident_mib(agent.pid, "VmHWM"), sender.state(), sink.state()
            ledger = agent.stop()
    ingest, lane = ledger["ingest"], ledger["lanes"]["far"]
    lost, dropped, rejected = sent["next"] - arrived["unique"], sum(lane["dropped"].values()), sum(ingest["rejected"].values())
    exact = (ledger["balanced"] and not bugs and sent["next"] + garbage.sent == ingest["datagrams"] + ingest["kernel_drops"]
             and lane["delivered"] == arrived["unique"] and rejected == garbage.sent and lost == dropped + ingest["kernel_drops"])
    late = [point for point in watch.resident if point[0] > warm]
    growth = scatter = None
    if len(late) > 60:
        slope, scatter = line(late)
        growth, scatter = round(slope * (late[-1][0] - late[0][0]), 2), round(scatter, 2)
    flat = growth is None or growth < max(1, 2 * scatter)
    no_leak = files[-1] - files[len(files) // 4] <= 2
    return {"seconds": round(took), "rate": rate, "faults": {name: made.count(name) for name in sorted(set(made))}, "sent": sent["next"],
            "lost": lost, "dropped": lane["dropped"], "kernel_drops": ingest["kernel_drops"], "garbage": garbage.sent,
            "rejected": ingest["rejected"], "duplicates": arrived["duplicates"], "held_most": longest_hold, "exact": bool(exact),
            "ledger": ledger, "cpu_s_per_million": round(cpu / arrived["unique"] * 1e6, 2), "peak_rss_mib": round(peak, 1),
            "rss_growth_mib": growth, "rss_scatter_mib": scatter, "warm_s": warm,
            "resident": [(round(at), round(mib, 2)) for at, mib in watch.resident], "descriptors": files, "flat": flat,
            "no_leak": no_leak, "other_cores": round(cores, 2),
            "ok": lost == 0 and complete and bool(exact) and flat and no_leak}


def main():
    p = harness.parser(__doc__)
    p.add_argument("--seconds", type=int, default=1800, help="(default: %(default)s)")
    p.add_argument("--every", type=int, default=20, help="seconds from fault to fault (default: %(default)s)")
    p.add_argument("--rate", type=int, default=10000, help="documents a second (default: %(default)s)")
    p.add_argument("--seed", type=int, default=1, help="of the order of faults (default: %(default)s)")
    a = p.parse_args()
    with harness.folder() as folder:
        result = run(folder, a.seconds, a.every, min(5, a.every / 2), a.rate, seed=a.seed)
    table = harness.Table({
        "seconds": lambda r: r["seconds"], "sent": lambda r: f"{r['sent']:,}", "lost": lambda r: r["lost"],
        "kernel drops": lambda r: r["kernel_drops"], "garbage": lambda r: f"{r['garbage']:,}", "came twice": lambda r: r["duplicates"],
        "books exact": lambda r: "yes" if r["exact"] else "NO", "peak RSS MiB": lambda r: r["peak_rss_mib"],
        "RSS growth, scatter, MiB": lambda r: f"{r['rss_growth_mib']}, {r['rss_scatter_mib']}",
        "descriptors, first and last": lambda r: f"{r['descriptors'][0]}, {r['descriptors'][-1]}",
        "CPU-s per million": lambda r: r["cpu_s_per_million"], "other work, cores": lambda r: r["other_cores"]})
    table.add(result)
    print("\nfaults: " + ", ".join(f"{name} {count}" for name, count in result["faults"].items()))
    return table.end(a.json)


if __name__ == "__main__":
    sys.exit(main())
