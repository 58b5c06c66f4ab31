#!/usr/bin/env python3
"""Rewrites what the golden tests expect: tests/golden/**, config/schema.json, the table in docs/configuration.md.

    tools/update_golden.py [BUILD]    BUILD: a Meson build with tests (default: build/release)

Runs the suite `golden` with MOBULA_UPDATE_GOLDEN set; read the diff before you commit it.
"""
import os
import pathlib
import subprocess
import sys

if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
    print(__doc__.strip())
    sys.exit(0 if len(sys.argv) == 2 else 2)
root = pathlib.Path(__file__).resolve().parent.parent
build = sys.argv[1] if len(sys.argv) == 2 else root / "build/release"
environment = os.environ | {"MOBULA_UPDATE_GOLDEN": "1"}
sys.exit(subprocess.run(["meson", "test", "-C", build, "--suite", "golden"], env=environment, check=False).returncode)
