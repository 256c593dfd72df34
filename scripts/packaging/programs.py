"""The programs as they are shipped: stripped, without this machine's paths, for a glibc that is old enough."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from elf import Elf

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("perturbine", "perturbine-torch")
GLIBC = (2, 34)


def version() -> str:
    """The version of the workspace."""
    return re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]


def ship(source: Path, to: Path, run_path: str = "") -> None:
    """Copies a program or library, stripped and with this run path."""
    if not source.is_file():
        sys.exit(f"{source} is missing; make builds it")
    if shutil.which("strip") is None:
        sys.exit("strip is missing; install binutils and run this again")
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["strip", "--strip-unneeded", "-o", str(to), str(source)], check=True)
    elf = Elf(to)
    elf.set_run_path(run_path)
    # The one of 2.35 differs only in how it sets errno, which is never read.
    elf.take_older("hypotf", "GLIBC_2.35", "GLIBC_2.2.5")
    to.write_bytes(elf.bytes)
    to.chmod(0o755)
    if elf.glibc() > GLIBC:
        newest = ".".join(map(str, elf.glibc()))
        sys.exit(f"{source} needs glibc {newest}; it should run with {'.'.join(map(str, GLIBC))}: build on an older system")


def write_checksum(file: Path) -> None:
    """Writes FILE.sha256, which `sha256sum --check` reads."""
    digest = hashlib.sha256()
    with open(file, "rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            digest.update(block)
    file.with_name(file.name + ".sha256").write_text(f"{digest.hexdigest()}  {file.name}\n")
