#!/usr/bin/env python3
"""What tools/test asks of Meson's own files.

    meson_tests.py targets BUILD SUITE      the ninja targets that the tests of a suite run
    meson_tests.py count LOG...             sums testlog.json files: "passed failed skipped", then the failures, what they missed first
"""
import json
import os
import re
import subprocess
import sys

GOOD, SKIPPED = {"OK", "EXPECTEDFAIL"}, {"SKIP"}
# Where a test says what it missed: pytest, gtest, the sanitizers.
TELLING = re.compile(r"^(E  |FAILED |ERROR |>  |\S+:\d+: (Failure|\w*Error)|\[  FAILED  \]|SUMMARY: |==\d+==ERROR|Expected|  Actual|Which is|Value of)")


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
    # All names and what was missed before any log: a reader may see the first lines only.
    failed = [(log, result) for log, result in results if result["result"] not in GOOD | SKIPPED]
    said = [(result.get("stdout") or "").splitlines() + (result.get("stderr") or "").splitlines() for _, result in failed]
    for (log, result), lines in zip(failed, said):
        print(f"{result['result']} {result['name']}  ({os.path.splitext(log)[0]}.txt)")
        for line in [line for line in lines if TELLING.match(line)][:12]:
            print(f"    | {line[:300]}")
    for (_, result), lines in zip(failed, said):
        print(f"the end of {result['name']}:")
        for line in lines[-15:]:
            print(f"    | {line[:300]}")


if __name__ == "__main__":
    {"targets": targets, "count": count}[sys.argv[1]](*sys.argv[2:])
