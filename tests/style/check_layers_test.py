"""The include rule refuses what it should: each offence is planted in a tree of its own."""
import os
import subprocess
import sys
import tempfile

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "check_layers.py")

# (file, its text, a part of the offence; None: allowed)
CASES = [
    ("engine/base/a.h", '#include "engine/base/b.h"\n', None),
    ("engine/base/a.h", '#include "engine/memory/block_pool.h"\n', "engine/base may not include"),
    ("engine/delivery/a.cc", '#include "engine/batch/batch.h"\n', None),
    ("engine/batch/a.cc", '#include "engine/delivery/delivery.h"\n', "engine/batch may not include"),
    ("engine/receive/a.cc", '#include "backends/registry.h"\n', "engine/receive may not include"),
    ("engine/app/a.cc", '#include "backends/registry.h"\n', None),
    ("backends/xray/a.cc", '#include "backends/file/file_exporter.h"\n', "backends/xray may not include"),
    ("backends/registry.cc", '#include "backends/file/file_exporter.h"\n', None),
    ("engine/receive/a.cc", "#include <liburing.h>\n", None),
    ("engine/app/a.cc", "  #  include <liburing.h>\n", "belongs behind engine/receive"),
    ("backends/xray/a.cc", "#include <openssl/evp.h>\n", "belongs behind engine/http and engine/aws"),
    ("engine/queue/a.h", "#include <concurrentqueue/concurrentqueue.h>\n", None),
    ("engine/app/a.h", "#include <concurrentqueue/concurrentqueue.h>\n", "belongs behind engine/queue"),
    ("engine/segment/a.cc", '#include "simdjson.h"\n', None),
    ("engine/main/a.cc", '#include "simdjson.h"\n', "belongs behind engine/segment"),
    ("engine/app/a.cc", '#include "tests/support/fake.h"\n', "may not include tests/support"),
    ("engine/unheard/a.cc", "", "not in the table"),
]


def run(path, text):
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(os.path.join(root, os.path.dirname(path)))
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(text)
        done = subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


failures = 0
for path, text, offence in CASES:
    status, said = run(path, text)
    if status != (1 if offence else 0) or (offence and offence not in said):
        failures += 1
        print(f"{path} with {text!r}: expected {offence!r}, got status {status} and {said!r}")
print(f"{len(CASES) - failures} of {len(CASES)} as expected")
sys.exit(1 if failures else 0)
