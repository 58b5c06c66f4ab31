#!/usr/bin/env python3
"""Bursts into an idle agent: datagrams back to back, and the share of them that arrives.

    bench/scenarios/bursts.py [--sizes 184,1472,3200,12800] [--times 5] [--daemon FILE] [--json FILE]

A burst of 700-byte documents (733 bytes with the header line) from one socket, as fast as one sender can, after the agent has
been idle; what does not arrive was dropped by the kernel because the queue was full. The kernel charges 2,304 bytes for such a
datagram: `queue` is what fits, and it is all that is needed to survive while the agent is not scheduled. Needs root.

root      CAP_NET_ADMIN: the queue is what is asked for, 8 MiB
nobody    user nobody, no capability: net.core.rmem_max of this machine is the cap, doubled by the kernel
stock     net.core.rmem_max as it is on an EKS node, 212,992 bytes, which make 425,984 for each socket: sixteen sockets, which
          is what `auto` opens there; `stock-8` has half of them, `stock-1` one, and `untouched` is a socket whose owner does
          not ask for more (the X-Ray daemon's). Of the agent, as user nobody; the queue is set by configuration
"""
import os
import pwd
import shutil
import statistics
import sys
import time

import harness

CHARGE = 2304  # truesize of a datagram of 733 bytes
STOCK = 2 * 212992
SETUPS = {
    "root": (False, {}),
    "nobody": (True, {}),
    "stock": (True, {"receive_buffer": STOCK, "sockets": 16}),
    "stock-8": (True, {"receive_buffer": STOCK, "sockets": 8}),
    "stock-1": (True, {"receive_buffer": STOCK, "sockets": 1}),
    "untouched": (True, {"receive_buffer": 212992, "sockets": 1}),
}


def as_nobody():
    user = pwd.getpwnam("nobody")
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs", "--inh-caps=-all")


def of_agent(folder, name, sink):
    """The agent, in one of the setups."""
    unprivileged, udp = SETUPS[name]
    program = os.path.join(folder, "mobula")
    shutil.copy(harness.BINARY, program)  # where nobody may go
    return harness.Agent(folder, sink.backend(), udp=udp, program=program, prefix=as_nobody() if unprivileged else ())


def of_daemon(folder, program, sink):
    return harness.Daemon(folder, program, sink)


def run(sink, agent, sizes, times, idle=1.5):
    """Bursts into one agent: for each size the share that arrived, of each of them."""
    with harness.Sender(agent.port) as sender:
        sockets = len(harness.udp_sockets(agent.port))
        shares, seconds = {size: [] for size in sizes}, {}
        for size in sizes * times:
            time.sleep(idle)
            before, drops, begin = sink.state()["unique"], harness.kernel_drops(agent.port), time.monotonic()
            sender.burst(size)
            seconds[size] = time.monotonic() - begin
            lost = harness.kernel_drops(agent.port) - drops
            harness.wait_for(lambda want=before + size - lost: sink.state()["unique"] >= want, "what the kernel took", 30)
            shares[size].append(100 * (sink.state()["unique"] - before) / size)
    return {"sockets": sockets, "shares": shares, "seconds": seconds}


def main():
    p = harness.parser(__doc__)
    p.add_argument("--sizes", default="184,1472,3200,12800", help="of the bursts (default: %(default)s)")
    p.add_argument("--times", type=int, default=5, help="each of them (default: %(default)s)")
    p.add_argument("--setups", default=",".join(SETUPS), help="(default: %(default)s)")
    p.add_argument("--daemon", metavar="FILE", help="the X-Ray daemon, to be measured too")
    a = p.parse_args()
    sizes = list(map(int, a.sizes.split(",")))
    with open("/proc/sys/net/core/rmem_max", encoding="ascii") as f:
        print(f"net.core.rmem_max {f.read().strip()}; median (worst) share delivered of {a.times} bursts\n")
    table = harness.Table({"setup": lambda r: r["setup"], "sockets": lambda r: r["sockets"], "queue, MiB": lambda r: r["queue_mib"],
                           "queue, datagrams": lambda r: f"{r['queue_datagrams']:,}",
                           **{f"{size:,}": lambda r, size=size: f"{statistics.median(r['shares'][size]):.1f} % ({min(r['shares'][size]):.1f})"
                              for size in sizes}})
    for name in [*a.setups.split(","), *(["daemon"] if a.daemon else [])]:
        with harness.folder() as folder, harness.Sink() as sink:
            if name == "daemon":
                made, queue = of_daemon(folder, a.daemon, sink), 212992
            else:
                made = of_agent(folder, name, sink)
                queue = made.events("receive_engine")[0]["queue_bytes"]
            with made as agent:
                result = run(sink, agent, sizes, a.times)
                agent.stop()
        whole = name != "root" or all(min(result["shares"][size]) == 100 for size in sizes if size <= 3200)
        table.add({"setup": name, "queue_mib": round(queue / (1 << 20), 1), "queue_datagrams": queue // CHARGE, "ok": whole, **result})
    return table.end(a.json)


if __name__ == "__main__":
    sys.exit(main())
