"""Every header compiles alone, as the first include of a file: check_headers.py COMPILER..."""
import concurrent.futures
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def headers():
    for top in ("engine", "backends", "include", "tests"):
        for directory, _, names in os.walk(os.path.join(ROOT, top)):
            for name in sorted(names):
                if name.endswith(".h"):
                    yield os.path.relpath(os.path.join(directory, name), ROOT)


def compile_alone(header, compiler, folder):
    """The compiler's complaint, or nothing. A real object, not -fsyntax-only, so that ccache can remember it."""
    stem = header.replace("/", "_")
    with open(os.path.join(folder, stem + ".cc"), "w", encoding="utf-8") as f:
        f.write(f'#include "{header}"\n#include "{header}"\n')
    # MOBULA_VERSION is a definition of engine/app/meson.build.
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", '-DMOBULA_VERSION="0"', "-I", ROOT]
    done = subprocess.run([*compiler, *flags, "-c", stem + ".cc", "-o", stem + ".o"], cwd=folder,
                          capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def main():
    compiler, found, bad = sys.argv[1:] or ["g++"], sorted(headers()), 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for header, complaint in zip(found, pool.map(lambda h: compile_alone(h, compiler, folder), found)):
            if complaint:
                bad += 1
                print(f"--- {header}\n{complaint}")
    print(f"{len(found)} headers, {bad} do not compile alone")
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main())
