#!/usr/bin/env python3
"""Writes a tarball that runs by itself: the programs with libtorch's libraries for CPUs.

    python3 scripts/packaging/dist.py target/dist target/tarballs

For machines with glibc 2.34 or newer and nothing else, such as the nodes of a cluster.
"""

import argparse
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from programs import PROGRAMS, ROOT, ship, version, write_checksum

LIBRARIES = {
    "link/lib": ("libtorch_cpu.so", "libc10.so", "libgomp.so.1"),
    # libtorch_cpu.so is linked to them, also where no GPU is used.
    "nvidia/cu13/lib": ("libcudart.so.13", "libcupti.so.13"),
}
# Where the program looks for libtorch first (pipeline/cli/libtorch.rs).
PLACE = "lib/torch/lib"
# The compiler's own libraries: small systems lack them, and those of older ones do not fit.
COMPILER_LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1")
LICENSES = ("LICENSE-MIT", "LICENSE-APACHE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("built", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    print(build(options.built, options.out))


def dist_name() -> str:
    """The name of the tarball's folder."""
    return f"perturbine-{version()}-linux-x86_64"


def build(built: Path, out: Path) -> Path:
    """Writes the tarball and its checksum, and returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    name = dist_name()
    tarball = out / f"{name}.tar.gz"
    part = tarball.with_name(tarball.name + ".part")
    with tempfile.TemporaryDirectory(dir=out) as staged:
        folder = Path(staged) / name
        for program in PROGRAMS:
            ship(built / program, folder / "bin" / program, run_path=f"$ORIGIN/../{PLACE}")
        (folder / PLACE).mkdir(parents=True)
        for library in libraries():
            shutil.copyfile(library, folder / PLACE / library.name)
        for license in LICENSES:
            shutil.copyfile(ROOT / license, folder / license)
        with tarfile.open(part, "w:gz", compresslevel=6) as tar:
            tar.add(folder, name, filter=plain)
    part.replace(tarball)
    write_checksum(tarball)
    return tarball


def libraries() -> list:
    """The libraries that are shipped."""
    found = [ROOT / ".libtorch" / folder / name for folder, names in LIBRARIES.items() for name in names]
    return found + [of_compiler(name) for name in COMPILER_LIBRARIES]


def of_compiler(name: str) -> Path:
    """A library of the compiler that built the programs."""
    ran = subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    # The name of the copy is the one that programs ask for; what is there may be a link to a longer one.
    return Path(ran.stdout.strip())


def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry that says nothing about this machine."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = 0
    return entry


if __name__ == "__main__":
    main()
