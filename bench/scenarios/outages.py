#!/usr/bin/env python3
"""Outages of the far side under load: what is lost, and when fresh documents are as fast as before.

    bench/scenarios/outages.py [--kinds 503,429,hang,reset,refused,dns,resolver,tls] [--seconds 5,60] [--daemon FILE]
                               [--json FILE]

5,000 documents a second to an agent with 24 MiB of buffer and a spool. After some seconds the far side fails as a whole,
for so long; the load goes on meanwhile, and for twice as long behind it.

dns       nobody answers at the far side's address any more, and its name no longer resolves; later it resolves to another
          address, where the far side is
resolver  only the name does not resolve: connections are cut, and the far side is where it was. Both need root: the agent gets
          a file /etc/hosts of its own
tls       the far side has a certificate that nobody vouches for

lost      sent, minus what arrived, by numbers in the documents; kernel drops are part of it
normal    from when on fresh documents are as fast as before the outage, in seconds after its end: for two seconds, the
          99th percentile of every half second is at most twice that of the time before, or 200 ms
drained   when the last document of the outage had arrived, in seconds after its end
waited    how long the document took that took longest: it shows that the outage was one
"""
import contextlib
import os
import statistics
import sys
import time

import harness

KINDS = ("503", "429", "hang", "reset", "refused", "dns", "resolver", "tls")
HOST = "far.scenario.test"


class Outage:
    """One kind of outage: prepares the far side, begins and ends. `settings` are of the backend."""

    def __init__(self, kind, folder, **settings):
        self.kind, self.folder = kind, folder
        self.prefix, self.right, self.wrong = (), (), ()
        if kind == "tls":
            from certificate import certificate  # needs a package of tools/setup --test
            self.right, self.wrong = (certificate(folder, name) for name in ("right", "wrong"))
            settings["tls"] = {"ca": self.right[0]}
        self.sink = harness.Sink(tls=self.right)
        if kind in ("dns", "resolver"):
            self.name_is("127.0.0.1")
            harness.write(f"{folder}/resolv.conf", "nameserver 127.0.0.1\n")  # where nobody answers
            self.prefix = harness.own_mounts(
                f"mount --bind {folder}/hosts /etc/hosts && mount --bind {folder}/resolv.conf /etc/resolv.conf")
            settings["endpoint"] = self.sink.url.replace("127.0.0.1", HOST)
        self.backend = self.sink.backend(**settings)

    def name_is(self, address):
        """The address of the far side's name; empty: none. Written over, not replaced: the agent sees the file by a mount."""
        harness.write(f"{self.folder}/hosts", f"127.0.0.1 localhost\n{address and address + ' ' + HOST}\n")

    def begin(self):
        if self.kind in ("dns", "resolver"):
            self.name_is("")
        self.sink.tell(*{"429": ("status", 429), "503": ("status", 503), "refused": ("refuse",), "dns": ("move", "127.0.0.2"),
                         "resolver": ("drop",), "tls": ("tls", *self.wrong)}.get(self.kind, (self.kind,)))

    def end(self):
        if self.kind == "tls":
            self.sink.tell("tls", *self.right)
        self.sink.tell("ok")
        if self.kind in ("dns", "resolver"):
            self.name_is("127.0.0.2" if self.kind == "dns" else "127.0.0.1")


def halves(latency):
    """The 99th percentile (ms) of each half second, by its beginning (ms): the worst of its tenths."""
    found = {}
    for at, _, _, p99, _ in latency:
        half = at // 500 * 500
        found[half] = max(found.get(half, 0), p99)
    return found


def normal_from(p99, begin, bound):
    """The first half second (ms) after `begin` with which two seconds begin that stay within `bound`; None: there is none."""
    for at in sorted(p99):
        if at + 500 > begin and all(p99.get(at + 500 * i, bound + 1) <= bound for i in range(4)):
            return at
    return None


def run(folder, kind, seconds, rate=5000, before=5.0, spool=True, daemon=None, **settings):
    """One outage of `seconds`; what came of it. `settings` are of the backend; `daemon` is another program to try."""
    outage = Outage(kind, folder, **settings)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(outage.sink)
        if daemon:
            agent = harness.Daemon(folder, daemon, sink, change={"TotalBufferSizeMB": 24}, prefix=outage.prefix)
        else:
            spool = {"path": f"{folder}/spool"} if spool else None
            agent = harness.Agent(folder, outage.backend, spool=spool, prefix=outage.prefix)
        pid = stack.enter_context(agent).process.pid
        sender = stack.enter_context(harness.Sender(agent.port))
        neighbours = harness.Neighbours()
        sender.rate(rate)
        time.sleep(before)
        outage.begin()
        begun = time.time()
        time.sleep(seconds)
        outage.end()
        ended = time.time()
        until = sender.state()["next"]
        drained = normal = None
        while (drained is None or normal is None) and time.time() < ended + 2 * seconds + 3:
            time.sleep(0.25)
            if drained is None and sink.has_all(until):
                drained = time.time() - ended
            p99 = halves(sink.latency())
            usual = statistics.median(v for at, v in p99.items() if begun - before + 1 <= at / 1000 < begun - 0.5)
            normal = normal_from(p99, ended * 1000, max(2 * usual, 200))
        sent = sender.rate(0)
        drops = harness.kernel_drops(agent.port)
        complete = harness.everything_arrives(sink, sender, lost=drops, quiet=5 if daemon else 30)
        cores = neighbours.cores(pid, sink.pid, sender.pid)
        peak = harness.resident_mib(pid, "VmHWM")
        arrived = sink.state()
        waited = max(longest for *_, longest in sink.latency()) / 1000
        ledger = agent.stop()
    lost = sent["next"] - sent["refused"] - arrived["unique"]
    normal = normal and round(max(0.0, normal / 1000 - ended), 1)
    return {"program": os.path.basename(daemon or "mobula"), "kind": kind, "seconds": seconds, "rate": rate, "sent": sent["next"],
            "sent_in_outage": round(rate * seconds), "lost": lost, "kernel_drops": drops, "duplicates": arrived["duplicates"],
            "usual_p99_ms": usual, "normal_after_s": normal, "drained_after_s": drained and round(drained, 1),
            "waited_s": round(waited, 1), "peak_rss_mib": round(peak, 1), "other_cores": round(cores, 2), "ledger": ledger,
            # An outage that kept nobody waiting was none, and proves nothing.
            "ok": lost == 0 and complete and normal is not None and normal <= 2 * seconds and
                  (waited > seconds / 2 or kind == "resolver")}


def main():
    p = harness.parser(__doc__)
    p.add_argument("--kinds", default=",".join(KINDS), help="(default: %(default)s)")
    p.add_argument("--seconds", default="5,60", help="of each outage (default: %(default)s)")
    p.add_argument("--rate", type=int, default=5000, help="documents a second (default: %(default)s)")
    p.add_argument("--daemon", metavar="FILE", help="the X-Ray daemon, to be tried too where its configuration can say so")
    p.add_argument("--no-spool", action="store_true", help="with the buffer alone")
    a = p.parse_args()
    table = harness.Table({
        "program": lambda r: r["program"], "outage": lambda r: r["kind"], "seconds": lambda r: r["seconds"], "sent in it": lambda r: f"{r['sent_in_outage']:,}",
        "lost": lambda r: f"{r['lost']:,}", "kernel drops": lambda r: r["kernel_drops"], "came twice": lambda r: r["duplicates"],
        "p99 before, ms": lambda r: round(r["usual_p99_ms"]), "normal after, s": lambda r: r["normal_after_s"],
        "drained after, s": lambda r: r["drained_after_s"], "waited, s": lambda r: r["waited_s"], "peak RSS MiB": lambda r: r["peak_rss_mib"],
        "other work, cores": lambda r: r["other_cores"]})
    for seconds in map(float, a.seconds.split(",")):
        for kind in a.kinds.split(","):
            with harness.folder() as folder:
                table.add(run(folder, kind, seconds, a.rate, spool=not a.no_spool))
            if a.daemon and kind not in ("dns", "resolver", "tls"):
                with harness.folder() as folder:
                    table.add(run(folder, kind, seconds, a.rate, daemon=a.daemon))
    return table.end(a.json)


if __name__ == "__main__":
    sys.exit(main())
