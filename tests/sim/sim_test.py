#!/usr/bin/env python3
"""What the tests ask of the simulation.

    sim_test.py seeds SIM COUNT LONG       that many seeds; LONG of them with MOBULA_LONG
    sim_test.py replay SIM                 a seed tells the same story twice
    sim_test.py outage SIM SECONDS LONG    the backend away for so long; LONG with MOBULA_LONG
    sim_test.py canaries SIM_CANARIES COUNT
        each planted bug is found within COUNT seeds, and again by the replay command that is printed then
"""
import os
import re
import shlex
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import canaries  # noqa: E402

JOBS = str(min(os.cpu_count() or 1, 8))


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def chosen(short, long):
    return long if os.environ.get("MOBULA_LONG") else short


def seeds(sim, short, long):
    return subprocess.call([sim, "--seeds", f"1..{chosen(short, long)}", "--jobs", JOBS])


def outage(sim, short, long):
    return subprocess.call([sim, "--scenario", "outage", "--seconds", chosen(short, long)])


def replay(sim):
    wrong = 0
    for seed in range(1, 21):
        stories = [run(sim, "--seed", str(seed), "--verbose").stdout for _ in range(2)]
        same = stories[0] == stories[1] and f"seed {seed}: well" in stories[0]
        print(f"seed {seed}: {len(stories[0].splitlines())} lines, {'the same twice' if same else 'NOT THE SAME'}")
        wrong += not same
    return 1 if wrong else 0


def find(sim, name, count):
    """How a canary was found: a line for people, and whether it was."""
    search = run(sim, "--canary", name, "--seeds", f"1..{count}")
    command = re.search(r"^replay: (.*)$", search.stdout, re.MULTILINE)
    if search.returncode == 0 or command is None:
        return f"NOT FOUND in {count} seeds", False
    again = run(*shlex.split(command[1]))
    if again.returncode == 0:
        return f"found, and not again by {command[1]}", False
    seed = int(command[1].split()[-1])
    why = re.search(rf"^seed {seed}:? (.*)$", search.stdout, re.MULTILINE)
    return f"seed {seed:>4}  {why[1][:120] if why else ''}", True


def all_canaries(sim, count):
    good = run(sim, "--seeds", "1..20").returncode == 0
    print(f"{'(none awake)':<34} {'nothing to find' if good else 'FAILS ALL THE SAME'}")
    for name, _, _, _ in canaries.CANARIES:
        text, found = find(sim, name, count)
        print(f"{name:<34} {text}", flush=True)
        good &= found
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit({"seeds": seeds, "replay": replay, "outage": outage, "canaries": all_canaries}[sys.argv[1]](*sys.argv[2:]))
