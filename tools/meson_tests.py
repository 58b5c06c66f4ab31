#!/usr/bin/env python3
"""What tools/test asks of Meson's own files.

    meson_tests.py targets BUILD SUITE      the ninja targets that the tests of a suite run
    meson_tests.py count LOG...             sums testlog.json files: "passed failed skipped", then one line a failure
"""
import json
import os
import subprocess
import sys

GOOD, SKIPPED = {"OK", "EXPECTEDFAIL"}, {"SKIP"}


def targets(build, suite):
    build = os.path.abspath(build)
    listed = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, text=True, check=True)
    for test in json.loads(listed.stdout):
        if any(name.split(":")[-1] == suite for name in test["suite"]):
            print(os.path.relpath(test["cmd"][0], build))


def count(*logs):
    results = []
    for log in logs:
        with open(log, encoding="utf-8") as f:
            results += [(log, json.loads(line)) for line in f if line.strip()]
    verdicts = [result["result"] for _, result in results]
    passed = sum(v in GOOD for v in verdicts)
    skipped = sum(v in SKIPPED for v in verdicts)
    print(passed, len(verdicts) - passed - skipped, skipped)
    for log, result in results:
        if result["result"] not in GOOD | SKIPPED:
            said = (result.get("stdout") or "").splitlines() + (result.get("stderr") or "").splitlines()
            print(f"{result['result']} {result['name']}  ({os.path.splitext(log)[0]}.txt)")
            for line in said[-25:]:
                print(f"    | {line}")


if __name__ == "__main__":
    {"targets": targets, "count": count}[sys.argv[1]](*sys.argv[2:])
