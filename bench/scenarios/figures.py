#!/usr/bin/env python3
"""First figures: CPU-seconds per million documents, loss and memory, by backend, engine and rate.

    bench/scenarios/figures.py [--seconds N] [--repetitions N] [--json FILE]

One run at a time: agent, sender and, for xray, the far side (plain HTTP, answers after 2 ms), all on loopback; 700-byte documents,
unique ids. CPU is the agent's own, all threads, user and system, between the first datagram and the last delivery.
"""
import statistics
import sys
import time

import harness


def settle(agent, sent, seconds=20):
    """The ledger once nothing moves any more, or after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        ledger = agent.ledger()
        ingest, held = ledger["ingest"], ledger["lanes"]["far"]["held"]
        if not ingest["open"] and not held and ingest["datagrams"] + ingest["kernel_drops"] >= sent or time.monotonic() > end:
            return ledger
        time.sleep(0.1)


def run(folder, sink, backend, engine, rate, seconds):
    settings = {"null": {"type": "null"}, "file": {"type": "file", "path": f"{folder}/out.jsonl"}, "xray": sink.backend()}[backend]
    with harness.Agent(folder, settings, udp={"engine": engine}) as agent, harness.Sender(agent.port) as sender:
        neighbours, before = harness.Neighbours(), harness.cpu_seconds(agent.pid)
        sender.rate(rate, rate * seconds)
        harness.wait_for(lambda: sender.state()["next"] == rate * seconds, "the load", 10 * seconds)
        sent = sender.state()["sent"]
        ledger = settle(agent, sent)
        spent, cores = harness.cpu_seconds(agent.pid) - before, neighbours.cores(agent.pid, sink.pid, sender.pid)
        peak = harness.resident_mib(agent.pid, "VmHWM")
        agent.stop()
    delivered = ledger["lanes"]["far"]["delivered"]
    return {"backend": backend, "engine": engine, "rate": rate, "sent": sent, "delivered": delivered,
            "kernel_drops": ledger["ingest"]["kernel_drops"], "cpu_s_per_million": round(spent / max(1, delivered) * 1e6, 2),
            "peak_rss_mib": round(peak, 1), "other_cores": round(cores, 2)}


def row(runs):
    """Several runs of one kind as one."""
    cpu = sorted(one["cpu_s_per_million"] for one in runs)
    return {**runs[0], "cpu": f"{statistics.median(cpu):.2f}", "spread": f"{cpu[0]:.2f}-{cpu[-1]:.2f}",
            "lost": sum(one["sent"] - one["delivered"] for one in runs), "of": sum(one["sent"] for one in runs),
            "rss": max(one["peak_rss_mib"] for one in runs), "cores": max(one["other_cores"] for one in runs), "runs": runs, "ok": True}


def idle(folder):
    with harness.Agent(folder, {"type": "null"}) as agent:
        time.sleep(1)
        before = harness.cpu_seconds(agent.pid)
        time.sleep(10)
        spent, resident = harness.cpu_seconds(agent.pid) - before, harness.resident_mib(agent.pid)
        agent.stop()
    return spent * 10, resident


def main():
    p = harness.parser(__doc__)
    p.add_argument("--seconds", type=int, default=8, help="of load in each run (default: %(default)s)")
    p.add_argument("--repetitions", type=int, default=3, help="runs of each row (default: %(default)s)")
    p.add_argument("--backends", default="null,file,xray", help="(default: %(default)s)")
    a = p.parse_args()
    table = harness.Table({"backend": lambda r: r["backend"], "engine": lambda r: r["engine"], "offered /s": lambda r: f"{r['rate']:,}",
                           "CPU-s per million": lambda r: r["cpu"], "spread": lambda r: r["spread"],
                           "lost": lambda r: f"{r['lost']} of {r['of']}", "peak RSS MiB": lambda r: r["rss"],
                           "other work, cores": lambda r: r["cores"]})
    with harness.Sink() as sink:
        for backend in a.backends.split(","):
            for engine in ("io_uring", "recvmmsg"):
                for rate in (1000, 10000, 40000, 100000):
                    runs = []
                    for _ in range(a.repetitions):
                        with harness.folder() as folder:
                            runs.append(run(folder, sink, backend, engine, rate, a.seconds))
                    table.add(row(runs))
    with harness.folder() as folder:
        cpu, resident = idle(folder)
    print(f"\nidle: {cpu:.3f} % of one core, {resident:.1f} MiB resident")
    return table.end(a.json)


if __name__ == "__main__":
    sys.exit(main())
