#!/usr/bin/env python3
"""The spool's disk fails while the agent needs it: no crash, no wedge, and recovery by itself.

    bench/scenarios/disks.py [--kinds full,read-only,aborted,hangs,slow,removed] [--json FILE]

5,000 documents a second to an agent with 24 MiB of buffer and a spool on a disk of its own; needs root. In turn, eight seconds
or so each:

broken   the disk fails; while the far side is up, fresh documents pass
overrun  the far side answers 503 for longer than memory lasts: what passes it is dropped, counted
mended   the far side is back; then the disk is, and nobody tells the agent
spooled  the far side answers 503 again: without a word from anybody, documents are on disk
drained  the far side is back, and all of it arrives

full       no room left
read-only  the disk is read-only when the agent starts, and later is not
aborted    the file system (ext4) met an error and turned read-only under open files; mended by mounting it anew in its place
hangs      writes do not return, for as long as it lasts (fsfreeze)
slow       writes return in bursts: for 450 ms of each half second the disk hangs
removed    the directory of the spool is removed under the agent

live ms  the longest that the 99th percentile of half a second of fresh documents took while the disk was broken and the far side
         was up. Of what is lost all must be dropped by the books of the agent
"""
import contextlib
import os
import subprocess
import sys
import threading
import time

import harness


class Disk:
    """A disk that breaks and is mended, seen by the agent alone. The spool is `path`."""

    def __init__(self, folder, kind):
        self.kind, self.mount, self.image = kind, os.path.join(folder, "disk"), os.path.join(folder, "image")
        self.path = os.path.join(self.mount, "spool")
        os.mkdir(self.mount)
        self.blink, self.end = None, threading.Event()
        make = f"mount -t tmpfs -o size=64m,mode=0700 spool {self.mount}"
        if kind in ("aborted", "hangs", "slow"):
            with open(self.image, "wb") as f:
                f.truncate(256 << 20)
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image], check=True)
            make = f"mount -o loop,errors=remount-ro {self.image} {self.mount}"
        if kind == "read-only":
            make += f" && mkdir {self.path} && mount -o remount,ro {self.mount}"
        self.prefix = harness.own_mounts(make)

    def fail(self, agent):
        harness.among_mounts_of(agent.pid, {
            # dd ends with an error when there is no more room, as it shall.
            "full": f"dd if=/dev/zero of={self.mount}/filler bs=64k 2> /dev/null || true",
            "read-only": "true",
            "aborted": f"mount -o remount,abort {self.mount}",
            "hangs": f"fsfreeze --freeze {self.mount}",
            "slow": "true",
            "removed": f"rm -r {self.path}"}[self.kind])
        if self.kind == "slow":
            self.blink = threading.Thread(target=self.hang_and_go, args=(agent,))
            self.blink.start()

    def hang_and_go(self, agent):
        while not self.end.is_set():
            harness.among_mounts_of(agent.pid, f"fsfreeze --freeze {self.mount}; sleep 0.45; fsfreeze --unfreeze {self.mount}")
            self.end.wait(0.05)

    def mend(self, agent):
        if self.blink:
            self.end.set()
            self.blink.join()
        if self.kind == "slow":
            return
        harness.among_mounts_of(agent.pid, {
            "full": f"rm {self.mount}/filler",
            "read-only": f"mount -o remount,rw {self.mount}",
            "aborted": f"umount -l {self.mount}; mkfs.ext4 -q {self.image}.new 256M > /dev/null && mount -o loop {self.image}.new {self.mount}",
            "hangs": f"fsfreeze --unfreeze {self.mount}",
            "removed": "true"}[self.kind])

    def let_go(self, agent):
        """Lets the agent end, whatever happened: who waits for a frozen disk cannot."""
        self.end.set()
        if self.blink:
            self.blink.join()
        if self.kind == "hangs" and agent.process.poll() is None:
            harness.among_mounts_of(agent.pid, f"fsfreeze --unfreeze {self.mount} 2> /dev/null || true")


class Watch:
    """Waits, and looks meanwhile whether the agent says that its loops turn."""

    def __init__(self, agent):
        self.agent, self.healthy = agent, True

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.healthy = self.healthy and self.agent.get("/healthz")[0] == 200
            time.sleep(0.2)


def run(folder, kind, rate=5000, memory="24MiB", overrun=8.0):
    """One kind of broken disk; what came of it. The far side is away for `overrun` seconds."""
    disk = Disk(folder, kind)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(harness.Sink())
        agent = stack.enter_context(harness.Agent(folder, sink.backend(), memory=memory, prefix=disk.prefix,
                                                  spool={"path": disk.path, "file_size": "1MiB"}))
        stack.callback(disk.let_go, agent)
        sender = stack.enter_context(harness.Sender(agent.port))
        neighbours, watch = harness.Neighbours(), Watch(agent)
        live = []  # when the disk was broken and the far side was up, in ms since 1970

        def books():
            return agent.ledger()["lanes"]["far"]

        sender.rate(rate)
        watch.wait(2)
        disk.fail(agent)  # broken
        begin = time.time()
        watch.wait(overrun / 4)
        live.append((begin * 1000, time.time() * 1000))
        sink.tell("status", 503)  # overrun
        watch.wait(overrun)
        while_broken = books()["spooled"]
        sink.tell("ok")
        watch.wait(overrun / 2)
        begin = time.time()
        watch.wait(overrun / 4)
        live.append((begin * 1000, time.time() * 1000))
        disk.mend(agent)  # mended
        watch.wait(overrun / 4)
        sink.tell("status", 503)  # spooled
        begin, before, recovered = time.monotonic(), books()["spooled"], None
        while recovered is None and time.monotonic() < begin + 4 * overrun:
            watch.wait(0.2)
            if books()["spooled"] > before + rate / 2:
                recovered = time.monotonic() - begin
        sink.tell("ok")  # drained
        sent = sender.rate(0)
        drops, dropped = harness.kernel_drops(agent.port), sum(books()["dropped"].values())
        complete = harness.everything_arrives(sink, sender, lost=dropped + drops)
        cores = neighbours.cores(agent.pid, sink.pid, sender.pid)
        latency, arrived = sink.latency(), sink.state()
        ledger = agent.stop()
    waited = [p99 for at, _, _, p99, _ in latency if any(begin <= at < end - 500 for begin, end in live)]
    lost, dropped = sent["next"] - arrived["unique"], ledger["lanes"]["far"]["dropped"]
    return {"kind": kind, "sent": sent["next"], "lost": lost, "dropped": dropped, "kernel_drops": drops,
            "spooled_while_broken": while_broken, "recovered_s": recovered and round(recovered, 1), "live_ms": round(max(waited, default=0)),
            "healthy": watch.healthy, "duplicates": arrived["duplicates"], "other_cores": round(cores, 2), "ledger": ledger,
            "ok": complete and watch.healthy and recovered is not None and lost == sum(dropped.values()) + drops}


KINDS = ("full", "read-only", "aborted", "hangs", "slow", "removed")


def main():
    p = harness.parser(__doc__)
    p.add_argument("--kinds", default=",".join(KINDS), help="(default: %(default)s)")
    a = p.parse_args()
    table = harness.Table({
        "disk": lambda r: r["kind"], "sent": lambda r: f"{r['sent']:,}", "lost": lambda r: f"{r['lost']:,}",
        "dropped, by the books": lambda r: ", ".join(f"{name} {n:,}" for name, n in r["dropped"].items() if n) or "0",
        "on disk while broken": lambda r: f"{r['spooled_while_broken']:,}", "live ms": lambda r: r["live_ms"],
        "healthy": lambda r: "yes" if r["healthy"] else "NO", "spools again after, s": lambda r: r["recovered_s"],
        "came twice": lambda r: r["duplicates"], "other work, cores": lambda r: r["other_cores"]})
    for kind in a.kinds.split(","):
        with harness.folder() as folder:
            table.add(run(folder, kind))
    return table.end(a.json)


if __name__ == "__main__":
    sys.exit(main())
