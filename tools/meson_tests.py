#!/usr/bin/env python3
"""What tools/test asks of Meson's own files.

    meson_tests.py select BUILD FOLDER...   the tests whose program lies in one of the folders: "name<TAB>ninja target"
    meson_tests.py count LOG...             sums testlog.json files: "passed failed skipped", then one line a failure
"""
import json
import os
import subprocess
import sys

GOOD, SKIPPED = {"OK", "EXPECTEDFAIL"}, {"SKIP"}


def select(build, *folders):
    build = os.path.abspath(build)
    listed = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, text=True, check=True)
    for test in json.loads(listed.stdout):
        program = os.path.relpath(test["cmd"][0], build)
        if any(program.startswith(folder.rstrip("/") + "/") for folder in folders):
            print(f"{test['name']}\t{program}")


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
    {"select": select, "count": count}[sys.argv[1]](*sys.argv[2:])
