#!/usr/bin/env python3
"""A small container: 64 MiB and half a core by control group, in the X-Ray daemon's place and with its configuration.

    bench/scenarios/box.py [--rates 1000,5000,10000,20000,40000] [--seconds 60] [--daemon FILE] [--json FILE]

`TotalBufferSizeMB: 24`, nothing else set. Only the agent is in the box; sender and far side (plain HTTP, answers after 2 ms)
are outside. Needs root. --daemon names a build of the X-Ray daemon, which then runs beside it.

lost        sent, minus what arrived, by numbers in the documents; kernel drops are part of it
RSS         the most that was resident (VmHWM); `charged` is the most that the box was charged with: files in the page cache
            and the kernel's buffers count there too
held back   periods of 100 ms in which the half core was used up
"""
import os
import sys
import time

import harness


def run(folder, program, rate, seconds, memory_mib=64, cpus=0.5):
    """One rate; what came of it. `program` is called as xray."""
    link = os.path.join(folder, "xray")
    os.symlink(os.path.abspath(program), link)
    with harness.Box(memory_mib, cpus) as box, harness.Sink() as sink, \
            harness.Daemon(folder, link, sink, change={"TotalBufferSizeMB": 24}, prefix=box.prefix) as agent, \
            harness.Sender(agent.port) as sender:
        pid, neighbours = agent.process.pid, harness.Neighbours()
        peak, drops, cpu = 0.0, 0, 0.0
        before = harness.cpu_seconds(pid)
        sender.rate(rate)
        end = time.monotonic() + seconds
        while time.monotonic() < end and agent.process.poll() is None:
            time.sleep(0.25)
            if agent.process.poll() is None:
                peak, drops = harness.resident_mib(pid, "VmHWM"), harness.kernel_drops(agent.port)
        sender.rate(0)
        harness.everything_arrives(sink, sender, lost=drops, quiet=5)
        alive = agent.process.poll() is None
        if alive:
            cpu = harness.cpu_seconds(pid) - before
            peak, drops = harness.resident_mib(pid, "VmHWM"), harness.kernel_drops(agent.port)
        cores = neighbours.cores(sink.pid, sender.pid, *([pid] if alive else []))
        sent, arrived, (periods, of, held_back), charged = sender.state(), sink.state(), box.throttled(), box.peak_mib()
        status = agent.stop() if alive else agent.process.wait()
        kills = box.oom_kills()
    lost = sent["next"] - arrived["unique"]
    return {"program": os.path.basename(program), "rate": rate, "seconds": seconds, "sent": sent["next"], "lost": lost,
            "kernel_drops": drops, "duplicates": arrived["duplicates"], "cpu_s_per_million": round(cpu / max(1, arrived["unique"]) * 1e6, 1),
            "cpu_percent": round(100 * cpu / seconds, 1), "peak_rss_mib": round(peak, 1), "charged_mib": round(charged, 1),
            "oom_kills": kills, "held_back": periods, "periods": of, "held_back_s": round(held_back, 2), "alive": alive,
            "other_cores": round(cores, 2), "ok": lost == 0 and alive and status == 0 and not kills and peak <= 48}


def main():
    p = harness.parser(__doc__)
    p.add_argument("--rates", default="1000,5000,10000,20000,40000", help="documents a second (default: %(default)s)")
    p.add_argument("--seconds", type=int, default=60, help="of each rate (default: %(default)s)")
    p.add_argument("--daemon", metavar="FILE", help="the X-Ray daemon, to be measured too")
    a = p.parse_args()
    table = harness.Table({
        "program": lambda r: r["program"], "offered /s": lambda r: f"{r['rate']:,}", "sent": lambda r: f"{r['sent']:,}",
        "lost": lambda r: f"{r['lost']:,}" + ("" if r["alive"] else " (killed)"), "kernel drops": lambda r: f"{r['kernel_drops']:,}",
        "CPU-s per million": lambda r: r["cpu_s_per_million"], "CPU": lambda r: f"{r['cpu_percent']} %",
        "RSS MiB": lambda r: r["peak_rss_mib"], "charged MiB": lambda r: r["charged_mib"], "OOM kills": lambda r: r["oom_kills"],
        "held back": lambda r: f"{r['held_back']} of {r['periods']}, {r['held_back_s']} s", "other work, cores": lambda r: r["other_cores"]})
    for program in filter(None, (harness.BINARY, a.daemon)):
        for rate in map(int, a.rates.split(",")):
            with harness.folder() as folder:
                table.add(run(folder, program, rate, a.seconds))
    return table.end(a.json)


if __name__ == "__main__":
    sys.exit(main())
