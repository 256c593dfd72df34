#!/usr/bin/env python3
"""Tests the Python package as a wheel of this build.

    python3 scripts/test_python.py target/debug            # against numpy, pyarrow and anndata
    python3 scripts/test_python.py --all target/debug      # with torch and all other packages that it works with

The environments are kept in target/python/. All tests run on one Python; on each other one from 3.10 on that is found, the wheel has to
import, simulate, ingest, open and load without any other package.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "python"
OLDEST, NEWEST = 10, 13
# The pinned packages need Python 3.12.
PREFERRED = (12, 13)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("built", type=Path, help="the folder with the programs and the extension")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    options = parser.parse_args()
    pythons = find_pythons()
    chosen = next((minor for minor in PREFERRED if minor in pythons), None)
    if chosen is None:
        print("SKIPPED: the tests of the Python package need Python 3.12 or 3.13", file=sys.stderr)
        return
    wheel = build_wheel(options.built)
    lists = ["requirements-test.txt", *(["requirements-all.txt"] if options.all else [])]
    python = environment(f"tests{'-all' if options.all else ''}", pythons[chosen], lists)
    install(python, ["--no-deps", "--force-reinstall", "--no-index", str(wheel)])
    run([python, "-m", "pytest", "--color=no", "-ra", "-p", "no:cacheprovider", str(ROOT / "python" / "tests"), *options.arguments])
    for minor, other in sorted(pythons.items()):
        if minor != chosen:
            bare = environment(f"bare-3.{minor}", other, [])
            install(bare, ["--no-deps", "--force-reinstall", "--no-index", str(wheel)])
            scratch = HOME / f"bare-3.{minor}-files"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            run([bare, str(ROOT / "scripts" / "packaging" / "wheel_calls.py")], scratch)
            print(f"Python 3.{minor}: imports, simulates, ingests, opens, loads")


def find_pythons() -> dict:
    """A Python of each version that is found, by its minor version."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(OLDEST, NEWEST + 1)]
    if shutil.which("pyenv"):
        versions = Path(subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()) / "versions"
        candidates += [str(path) for path in sorted(versions.glob("3.*/bin/python3"))]
    found = {}
    for candidate in [sys.executable, *candidates]:
        if candidate:
            ask = "import sys; print(*sys.version_info[:2])"
            ran = subprocess.run([candidate, "-c", ask], capture_output=True, text=True)
            # A command that only says which version it lacks fails.
            major, minor = map(int, ran.stdout.split()) if ran.returncode == 0 else (0, 0)
            if major == 3 and OLDEST <= minor <= NEWEST:
                found.setdefault(minor, candidate)
    return found


def build_wheel(built: Path) -> Path:
    """The wheel of these programs, not compressed."""
    script = ROOT / "scripts" / "packaging" / "wheel.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--store", str(built), str(HOME / "wheels")], stdout=subprocess.PIPE, text=True
    )
    if ran.returncode != 0:
        sys.exit(ran.returncode)
    return Path(ran.stdout.strip())


def environment(name: str, python: str, lists: list) -> str:
    """The Python of an environment with the packages of these lists. One that is kept is used again while the lists are the same."""
    folder = HOME / name
    texts = [(ROOT / "python" / one).read_text() for one in lists]
    wanted = hashlib.sha256("\n".join([python, *texts]).encode()).hexdigest()
    stamp = folder / "complete"
    inside = str(folder / "bin" / "python")
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        run([python, "-m", "venv", str(folder)])
        for one in lists:
            install(inside, ["--only-binary=:all:", "-r", str(ROOT / "python" / one)])
        stamp.write_text(wanted)
    return inside


def install(python: str, arguments: list) -> None:
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])


def run(command: list, folder: Path = ROOT) -> None:
    # The wheel's own programs and no others; libtorch is that of this clone.
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PERTURBINE_PROGRAM")}
    variables.setdefault("PERTURBINE_LIBTORCH", str(ROOT / ".libtorch" / "link" / "lib"))
    ran = subprocess.run(command, cwd=folder, env=variables)
    if ran.returncode != 0:
        sys.exit(ran.returncode)


if __name__ == "__main__":
    main()
