#!/usr/bin/env python3
"""Measures what a developer waits for after changing one line of a room: seconds until its crate is built and its tests have passed.

    scripts/dev_loop.py [ROOM ...]      # such as: reader sink; without names, every room

For each room: builds its tests, appends a comment to its lib.rs, runs `cargo test --locked -p CRATE`, and restores the file, even when
interrupted. Prints a row of a table for each room, then the median. CARGO names another cargo.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARGO = os.environ.get("CARGO", "cargo")


def rooms():
    """The crate and the lib.rs of each room, by its name."""
    described = subprocess.run([CARGO, "metadata", "--no-deps", "--locked", "--format-version", "1"], cwd=ROOT,
                               check=True, capture_output=True, text=True).stdout
    found = {}
    for package in json.loads(described)["packages"]:
        folder = Path(package["manifest_path"]).parent
        library = [target["src_path"] for target in package["targets"] if "lib" in target["kind"]]
        if library and ROOT / "stages" in folder.parents:
            found[package["name"].removeprefix("perturbine-")] = (package["name"], Path(library[0]))
    return found


@contextmanager
def one_line_changed(path):
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"// One line more.\n")
        yield
    finally:
        path.write_bytes(before)


def test(crate, *options):
    """Seconds that cargo took."""
    started = time.monotonic()
    done = subprocess.run([CARGO, "test", "--locked", "-p", crate, *options], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"the tests of {crate} failed:\n{done.stdout}")
    return time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", nargs="*", help="rooms to measure; all without names")
    known, wanted = rooms(), parser.parse_args().room
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no room is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    # The default of these signals would end the process before the file is restored.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    print("| room | seconds |\n|---|---|")
    seconds = []
    for name in wanted or sorted(known):
        crate, library = known[name]
        test(crate, "--no-run")
        with one_line_changed(library):
            seconds.append(test(crate))
        print(f"| `{name}` | {seconds[-1]:.1f} |", flush=True)
    print(f"| median of {len(seconds)} | {statistics.median(seconds):.1f} |")


if __name__ == "__main__":
    main()
