#!/usr/bin/env python3
"""Writes the wheel: the Python package with its extension and the programs.

    python3 scripts/packaging/wheel.py target/dist target/wheels

The first folder has the built programs and the extension (`lib_native.so`), the second gets the wheel and its checksum. One wheel serves
all Pythons from 3.10 on. It is put together here, as the binary distribution format says, since it has more in it than an extension.
With --store it is not compressed, which is quicker; for tests.
"""

import argparse
import base64
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

from programs import GLIBC, PROGRAMS, ROOT, ship, version, write_checksum

try:
    import tomllib
except ModuleNotFoundError:
    from pip._vendor import tomli as tomllib

PACKAGE = ROOT / "python" / "perturbine"
EXTENSION = "lib_native.so"
TAG = "cp310-abi3-manylinux_{}_{}_x86_64".format(*GLIBC)
LICENSES = ("LICENSE-MIT", "LICENSE-APACHE")
# The earliest time that a zip file can hold: the same content is the same wheel.
TIME = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("built", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", action="store_true")
    options = parser.parse_args()
    print(build(options.built, options.out, zipfile.ZIP_STORED if options.store else zipfile.ZIP_DEFLATED))


def wheel_name() -> str:
    """The wheel's file name."""
    return f"perturbine-{version()}-{TAG}.whl"


def build(built: Path, out: Path, compression: int) -> Path:
    """Writes the wheel and its checksum, and returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / wheel_name()
    part = wheel.with_name(wheel.name + ".part")
    with tempfile.TemporaryDirectory(dir=out) as staged, zipfile.ZipFile(part, "w", compression, compresslevel=9) as zipped:
        files = contents(built, Path(staged))
        record = []
        for name, content in sorted(files.items()):
            record.append(add(zipped, name, content))
        name = f"{information()}/RECORD"
        add(zipped, name, "".join([*record, f"{name},,\n"]).encode())
    part.replace(wheel)
    write_checksum(wheel)
    return wheel


def contents(built: Path, staged: Path) -> dict:
    """The files of the wheel by their names: paths or bytes."""
    files = {}
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".pyi", ".typed"):
            files[f"perturbine/{path.relative_to(PACKAGE).as_posix()}"] = path.read_bytes()
    for program in PROGRAMS:
        ship(built / program, staged / program)
        files[f"perturbine/bin/{program}"] = staged / program
    ship(built / EXTENSION, staged / EXTENSION)
    files["perturbine/_native.abi3.so"] = staged / EXTENSION
    folder = information()
    files[f"{folder}/METADATA"] = metadata().encode()
    files[f"{folder}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: perturbine\nRoot-Is-Purelib: false\nTag: {TAG}\n".encode()
    files[f"{folder}/entry_points.txt"] = scripts().encode()
    for name in LICENSES:
        files[f"{folder}/licenses/{name}"] = (ROOT / name).read_bytes()
    return files


def add(zipped: zipfile.ZipFile, name: str, content) -> str:
    """Adds a file, and returns its line of RECORD."""
    data = content.read_bytes() if isinstance(content, Path) else content
    entry = zipfile.ZipInfo(name, TIME)
    entry.compress_type = zipped.compression
    # A regular file; programs and libraries may be executed.
    entry.external_attr = (0o100755 if isinstance(content, Path) else 0o100644) << 16
    zipped.writestr(entry, data)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def information() -> str:
    return f"perturbine-{version()}.dist-info"


def project() -> dict:
    """The table `project` of pyproject.toml."""
    with open(ROOT / "python" / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


def metadata() -> str:
    """METADATA: what pyproject.toml says, with the page for users as its text."""
    table = project()
    if table["version"] != version() or f'"{version()}"' not in (PACKAGE / "_version.py").read_text():
        sys.exit(f"pyproject.toml and _version.py should have the version of Cargo.toml, {version()}")
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {table['name']}",
        f"Version: {version()}",
        f"Summary: {table['description']}",
        f"Requires-Python: {table['requires-python']}",
        f"License-Expression: {table['license']}",
        *(f"License-File: {name}" for name in LICENSES),
        f"Keywords: {','.join(table['keywords'])}",
        *(f"Classifier: {one}" for one in table["classifiers"]),
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join(lines) + "\n\n" + (ROOT / "docs" / "python.md").read_text()


def scripts() -> str:
    """entry_points.txt: the console scripts of pyproject.toml."""
    lines = [f"{name} = {place}" for name, place in project()["scripts"].items()]
    return "[console_scripts]\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
