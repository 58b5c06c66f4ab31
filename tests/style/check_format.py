"""Every C++ file is laid out as clang-format lays it out."""
import os
import shutil
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def cpp_files():
    for top in ("engine", "backends", "bench", "include", "tests"):
        for directory, _, names in os.walk(os.path.join(ROOT, top)):
            for name in sorted(names):
                if name.endswith((".h", ".cc")):
                    yield os.path.relpath(os.path.join(directory, name), ROOT)


# Version 14 by name: another version lays some lines out differently.
program = shutil.which("clang-format-14")
if program is None:
    sys.exit("clang-format-14 is missing: run ./tools/setup --test")
files = list(cpp_files())
done = subprocess.run([program, "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True, check=False)
bad = sorted({line.split(":")[0] for line in done.stderr.splitlines() if ": error: " in line})
for name in bad:
    print(name)
print(f"{len(files)} files, {len(bad)} to mend with clang-format-14 -i")
sys.exit(done.returncode)
