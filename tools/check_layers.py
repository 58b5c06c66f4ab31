#!/usr/bin/env python3
"""Checks that includes point one way, and that each library has one door.

    tools/check_layers.py [ROOT]     prints one line per offence and exits with 1

The two tables below are the rule; docs/architecture.md shows it as a picture. An exception is one line in
EXCEPTIONS, with its reason.
"""
import os
import re
import sys

# Folder -> the folders it may include, beside itself. In the order of the layers.
SERVICES = ["engine/metrics", "engine/memory", "engine/segment", "engine/batch", "engine/queue", "engine/spool",
            "engine/filter", "engine/config", "engine/http", "engine/aws"]
BASE = ["engine/base"]
LAYERS = {
    "engine/base": [],
    "engine/harden": BASE,
    "engine/metrics": BASE,
    "engine/memory": BASE,
    "engine/segment": BASE,
    "engine/batch": BASE + ["engine/memory", "engine/segment"],
    "engine/queue": BASE + ["engine/metrics", "engine/batch"],
    "engine/spool": BASE + ["engine/metrics", "engine/memory", "engine/segment", "engine/batch"],
    "engine/filter": BASE + ["engine/segment"],
    "engine/config": BASE + ["engine/segment", "engine/filter"],
    "engine/http": BASE,
    "engine/aws": BASE + ["engine/segment", "engine/config", "engine/http"],
    "engine/sampling": BASE + ["engine/metrics", "engine/segment", "engine/http", "engine/aws"],
    "engine/route": BASE + SERVICES,
    "engine/receive": BASE + SERVICES + ["engine/route"],
    "engine/delivery": BASE + SERVICES,
    "backends": BASE + SERVICES + ["engine/delivery", "backends/xray", "backends/file", "backends/null"],
    "backends/xray": BASE + SERVICES + ["engine/delivery"],
    "backends/file": BASE + SERVICES + ["engine/delivery"],
    "backends/null": BASE + SERVICES + ["engine/delivery"],
    "engine/app": BASE + SERVICES + ["engine/receive", "engine/route", "engine/delivery", "engine/sampling", "engine/harden",
                           "backends"],
    "engine/main": BASE + ["engine/app", "engine/config"],
}

# Header of a library (a prefix of what stands between the brackets) -> the folders that may include it.
DOORS = {
    "liburing": ["engine/receive"],
    "simdjson": ["engine/segment"],
    "boost/": ["engine/http", "engine/aws"],
    "openssl/": ["engine/http", "engine/aws"],
    "yaml-cpp/": ["engine/config"],
    "CLI/": ["engine/main", "engine/app"],
    "concurrentqueue": ["engine/queue"],
    "moodycamel/": ["engine/queue"],
    "pugixml": ["engine/aws"],
    "prometheus/": ["engine/app"],
    "seccomp.h": ["engine/harden"],
    "zlib.h": ["backends/file", "engine/app"],
    "zstd.h": ["backends/file", "engine/spool", "engine/app"],
    "curl/": [],
    "dlfcn.h": [],
}

# (file, what it includes): the reason.
_DEAD_LETTERS = "the agent's own dead-letter file is written by the file backend's code, without being a backend"
_FORMATS = "send, replay and the live check know what the file backend writes; they are built whichever backends are"
EXCEPTIONS = {
    ("engine/app/agent.h", "backends/file/dead_letter_file.h"): _DEAD_LETTERS,
    ("engine/app/dead_letter_exporter.h", "backends/file/dead_letter_file.h"): _DEAD_LETTERS,
    ("engine/app/document_reader.h", "backends/file/input_stream.h"): _FORMATS,
    ("engine/app/document_reader.cc", "backends/file/record_format.h"): _FORMATS,
    ("engine/app/live_check.cc", "backends/file/record_format.h"): _FORMATS,
    ("engine/app/replay_command.cc", "backends/file/record_format.h"): _FORMATS,
}

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def folder_of(path):
    """The layer a path belongs to: the longest folder of the table that holds it."""
    folder = os.path.dirname(path)
    while folder and folder not in LAYERS:
        folder = os.path.dirname(folder)
    return folder


def sources(root):
    for top in ("engine", "backends"):
        for directory, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".h", ".cc")):
                    yield os.path.relpath(os.path.join(directory, name), root)


def offences(path, text):
    """What the file at `path` includes against the rule, as sentences."""
    folder = folder_of(path)
    if not folder:
        yield f"{path}: its folder is not in the table of layers"
        return
    for match in INCLUDE.finditer(text):
        bracket, included = match.groups()
        if (path, included) in EXCEPTIONS:
            continue
        line = text.count("\n", 0, match.start()) + 1
        if bracket == '"' and included.startswith(("engine/", "backends/", "tests/")):
            target = folder_of(included)
            if target != folder and target not in LAYERS[folder]:
                yield f"{path}:{line}: {folder} may not include {included}"
        for prefix, doors in DOORS.items():
            inner = included.split("/", 1)[1] if included.startswith("concurrentqueue/") else included
            if (included.startswith(prefix) or inner.startswith(prefix)) and folder not in doors:
                where = " and ".join(doors) or "no folder"
                yield f"{path}:{line}: {included} belongs behind {where}"
                break


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    found, files = [], 0
    for path in sources(root):
        files += 1
        with open(os.path.join(root, path), encoding="utf-8") as f:
            found += offences(path, f.read())
    for offence in found:
        print(offence)
    print(f"{files} files, {len(found)} offences")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
