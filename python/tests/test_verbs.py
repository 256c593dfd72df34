"""The verbs and their arguments are the program's commands and flags."""

from __future__ import annotations

import functools
import inspect
import keyword
import re
import subprocess
import sys
from pathlib import Path

import perturbine as pb
import pytest
from perturbine import _verbs
from perturbine._program import program

ROOT = Path(__file__).resolve().parents[2]
NOT_ARGUMENTS = {"json", "wide", "csv", "quiet", "help", "version", "progress", "stop-on-eof"}


@functools.lru_cache
def help_of(*command: str) -> str:
    return subprocess.run([program(), *command, "--help"], capture_output=True, text=True, check=True).stdout


def commands(*command: str) -> list[tuple[str, ...]]:
    """The commands without subcommands, as the program lists them."""
    listed = re.search(r"^Commands:\n(.*?)\n\n", help_of(*command), re.S | re.M)
    if listed is None:
        return [command]
    names = re.findall(r"^  ([a-z]+) ", listed[1], re.M)
    return [leaf for name in names if name != "help" for leaf in commands(*command, name)]


def test_each_command_is_a_verb_with_its_flags() -> None:
    found = {"_".join(command): command for command in commands() if command != ("completions",)}
    assert sorted(found) == sorted(_verbs.__all__)
    for name, command in found.items():
        flags = set(re.findall(r"^  (?:-\w, |    )--([a-z0-9-]+)", help_of(*command), re.M)) - NOT_ARGUMENTS
        signature = inspect.signature(getattr(pb, name)).parameters
        wanted = {flag.replace("-", "_") + ("_" if keyword.iskeyword(flag) else "") for flag in flags}
        assert wanted <= set(signature), f"{name} lacks {wanted - set(signature)}"
        others = set(signature) - wanted
        places = set(re.findall(r"^  [<\[]([A-Z]+)", help_of(*command), re.M))
        own = {"verbose", "progress", *(["shards"] if "commit" in wanted else [])}
        assert own <= others, f"{name} lacks {own - others}"
        assert len(others - own) == len(places), f"{name} has {others - own}, the command {places}"


def test_verbs_are_as_the_script_writes_them() -> None:
    script = ROOT / "scripts" / "python_verbs.py"
    if not script.exists():
        pytest.skip("the scripts are in the repository alone")
    ran = subprocess.run([sys.executable, script, "--check", program()], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_verbs_say_what_their_arguments_mean() -> None:
    for name in _verbs.__all__:
        verb = getattr(pb, name)
        for argument in inspect.signature(verb).parameters:
            assert re.search(rf"^        {argument}: \S", verb.__doc__, re.M), f"{name}: {argument}"


def test_importing_loads_no_large_package() -> None:
    code = "import sys, perturbine; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert loaded.isdisjoint({"torch", "numpy", "pandas", "pyarrow", "polars", "anndata"}), loaded
