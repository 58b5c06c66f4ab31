#!/usr/bin/env python3
"""kill -9 at random moments, under load and with the far side down: what arrives after all, and what each kill cost.

    bench/scenarios/kills.py [--kills 20] [--json FILE]

5,000 documents a second to an agent with 24 MiB of buffer and a spool; the far side answers 503. The agent is killed, the
sender pauses at once (what is sent while nobody has the port cannot be the agent's to lose), the agent is started again
and the load goes on: again and again. Then the far side recovers.

lost      sent before the kill, not refused by the closed port, and never arrived: by numbers in the documents
at most   what could be lost at the kill: what was sent to this start, minus what its ledger, read just before the kill, had
          on disk. The rest was in memory: of the process or, not yet received, of the kernel
"""
import random
import sys
import time

import harness


def settled(ledger):
    """Documents of this start that are on disk, or otherwise done with."""
    lane = ledger["lanes"]["far"]
    return lane["delivered"] + sum(lane["dropped"].values()) + lane["spooled"] - lane["restored"]


def kill(agent, sender, rate, first):
    """Kills the agent and starts it again. `first` is the number of the first document sent to it."""
    ledger = agent.ledger()
    begin = time.monotonic()
    agent.process.kill()
    end = sender.rate(0)["next"]
    agent.process.wait()
    agent.start()
    back = time.monotonic() - begin
    sender.rate(rate)
    return {"first": first, "end": end, "held": ledger["ingest"]["open"] + ledger["lanes"]["far"]["held"],
            "at_most": end - first - settled(ledger), "back_s": round(back, 2)}


def run(folder, kills=20, rate=5000, between=(0.3, 4.5), seed=1):
    """All kills, and what came of them."""
    choose = random.Random(seed)
    with harness.Sink() as sink:
        with harness.Agent(folder, sink.backend(), spool={"path": f"{folder}/spool"}) as agent, harness.Sender(agent.port) as sender:
            neighbours = harness.Neighbours()
            sink.tell("status", 503)
            sender.rate(rate)
            done, drops, first = [], 0, 0
            for _ in range(kills):
                time.sleep(choose.uniform(*between))
                drops += harness.kernel_drops(agent.port)
                done.append(kill(agent, sender, rate, first))
                first = done[-1]["end"]
            time.sleep(choose.uniform(*between))
            sent = sender.rate(0)["next"]
            drops += harness.kernel_drops(agent.port)
            refused = sender.refused()
            for one in done:
                one["refused"] = sum(one["first"] <= n < one["end"] for n in refused)
            sink.tell("ok")
            begin = time.monotonic()
            harness.everything_arrives(sink, sender, quiet=10)
            drained = time.monotonic() - begin
            cores = neighbours.cores(agent.pid, sink.pid, sender.pid)
            missing = sink.missing(sent) - refused
            arrived = sink.state()
            ledger = agent.stop()
    for one in done:
        one["lost"] = sum(one["first"] <= n < one["end"] for n in missing)
    elsewhere = sum(n >= first for n in missing)
    return {"kills": done, "sent": sent, "refused": len(refused), "arrived": arrived["unique"], "duplicates": arrived["duplicates"],
            "lost": len(missing), "lost_without_kill": elsewhere, "kernel_drops": drops, "drained_s": round(drained, 1),
            "other_cores": round(cores, 2), "balanced": ledger["balanced"],
            "ok": ledger["balanced"] and elsewhere <= drops and all(one["lost"] <= one["at_most"] for one in done)}


def main():
    p = harness.parser(__doc__)
    p.add_argument("--kills", type=int, default=20, help="(default: %(default)s)")
    p.add_argument("--rate", type=int, default=5000, help="documents a second (default: %(default)s)")
    p.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    a = p.parse_args()
    with harness.folder() as folder:
        result = run(folder, a.kills, a.rate, seed=a.seed)
    table = harness.Table({
        "kill": lambda r: r["kill"], "documents of this start": lambda r: f"{r['end'] - r['first']:,}", "lost": lambda r: r["lost"],
        "at most": lambda r: r["at_most"], "held in memory": lambda r: r["held"], "refused": lambda r: r["refused"],
        "back after, s": lambda r: r["back_s"]})
    for i, one in enumerate(result["kills"]):
        table.add({"kill": i + 1, **one})
    print("\n{sent:,} sent, {refused:,} refused by the closed port, {arrived:,} arrived ({duplicates:,} came twice), {lost:,} lost; of "
          "these {lost_without_kill} without a kill; kernel drops {kernel_drops}; other work {other_cores} cores".format(**result))
    table.results = [result]
    return table.end(a.json)


if __name__ == "__main__":
    sys.exit(main())
