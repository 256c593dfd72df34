#!/usr/bin/env python3
"""Writes the verbs of the Python package, `python/perturbine/_verbs/`, from the help of every command.

    python3 scripts/python_verbs.py target/release/perturbine
    python3 scripts/python_verbs.py --check target/release/perturbine     # fails where a verb is not current

A verb has the command's name, and an argument for each flag. python/tests/test_verbs.py checks that the verbs are current.
"""

import argparse
import keyword
import re
import sys
import textwrap
from pathlib import Path

from cli_docs import commands, help_of
from help_text import Argument, parse

HOME = Path(__file__).resolve().parent.parent / "python" / "perturbine" / "_verbs"
WIDTH = 120
# A shell's own business.
NO_VERBS = {"completions"}
# How results are printed and how the program is held are the package's business.
NO_ARGUMENTS = {"json", "wide", "csv", "quiet", "help", "version", "progress", "stop-on-eof"}
# The function of `_outcomes` that runs a command, and the type that it returns; others report.
OUTCOMES = {
    "ingest": ("atlas", "Atlas"),
    "train": ("model", "Model"),
    "predict": ("prediction", "Prediction"),
    "embed": ("prediction", "Prediction"),
    "response": ("prediction", "Prediction"),
    "evaluate": ("evaluation", "Evaluation"),
    "judge": ("judgement", "Evaluation"),
    "crossval": ("evaluation", "Evaluation"),
    "presets": ("table", "Table"),
    "settings": ("table", "Table"),
}
# Commands whose work can be divided, and which publish it with `--commit`.
SHARDED = {"predict", "embed", "crossval"}
MODULES = {
    "Atlas": "_atlas",
    "Model": "_model",
    "Prediction": "_prediction",
    "Evaluation": "_evaluation",
    "Table": "_table",
    "Report": "_report",
}
# The standard output of the program comes here as a stream.
STREAM = re.compile(r"; - for a stream of Arrow record batches on stdout( instead of the table)?")
# Its standard input is the package's own.
TABLES = re.compile(r"; - for tables of cells on stdin.*")
# Flags that the package can leave to the program: without `out`, rows come as a stream.
OPTIONAL = {("embed", "out")}
# Flags that were always given without their names, although publishing shards does without them.
NAMELESS = {("crossval", "scheme")}
# A number without a default that would show it.
NUMBERS = {"epochs", "threads", "combos", "gzip", "cells_per_condition", "seed"}
# Switches that the package decides on where they are not given, and how.
DECIDED = {("train", "resume"): "where a training was stopped"}
PROGRESS = Argument("progress", "", "Where progress goes: True for `sys.stderr`, a function for each event [default: logging]")
SHARDS = Argument(
    "shards",
    "",
    "Prepare this many shards instead, which `Job.run` runs; with `shard_out`, they are folders in it, and workers need not share a "
    "folder [default: run here]",
)
VERBOSE = Argument("verbose", "", "Print more detail; 2 and 3 for still more")


def verbs(program: str) -> dict:
    """The text of each file, by its name."""
    files, names = {}, []
    for command in leaves(program, ()):
        if command[0] not in NO_VERBS:
            name = "_".join(command)
            names.append(name)
            files[f"_{name}.py"] = module(name, command, help_of(program, command))
    files["__init__.py"] = package(sorted(names))
    return files


def leaves(program: str, command: tuple):
    """The commands that have no subcommands."""
    inner = commands(help_of(program, command))
    if not inner:
        yield command
    for name in inner:
        yield from leaves(program, (*command, name))


def package(names: list) -> str:
    imports = "\n".join(f"from ._{name} import {name}" for name in names)
    listed = "".join(f'    "{name}",\n' for name in names)
    return f'"""The verbs: one for each command. Written by scripts/python_verbs.py."""\n\n{imports}\n\n__all__ = [\n{listed}]\n'


def module(name: str, command: tuple, text: str) -> str:
    title, arguments = parse(text)
    if len(command) > 1:
        title = f"{title} (`perturbine {' '.join(command)}`)"
    arguments = [argument for argument in arguments if argument.flag not in NO_ARGUMENTS]
    outcome, result = OUTCOMES.get(name, ("report", "Report"))
    for argument in arguments:
        argument.text = STREAM.sub("; left out, the rows are a stream", TABLES.sub("", argument.text))
        argument.name = argument.flag.replace("-", "_") + ("_" if keyword.iskeyword(argument.flag) else "")
        argument.nameless = (name, argument.name) in NAMELESS
        argument.required = argument.required and (name, argument.name) not in OPTIONAL
        if (name, argument.name) in DECIDED:
            argument.choices = ["true", "false"]
            argument.text += f" [default: {DECIDED[name, argument.name]}]"
    types = {argument.name: type_of(argument) for argument in arguments}
    signature = parameters(arguments, types)
    shards = name in SHARDED
    imported = [one for one in ("Many", "Scalar", "Selector", "StrPath") if any(one in kind for kind in types.values())]
    literal = "Literal, " if any("Literal" in kind for kind in types.values()) else ""
    lines = [
        f'"""The verb `{name}`. Written by scripts/python_verbs.py from the help of the command."""',
        "",
        "from __future__ import annotations",
        "",
        f"from typing import TYPE_CHECKING{', Literal' if literal else ''}{', overload' if shards else ''}",
        "",
        "from .. import _outcomes",
        "from .._arguments import Request, verb",
        "",
        "if TYPE_CHECKING:",
        *sorted(
            [
                f"    from ..{MODULES[result]} import {result}",
                *(["    from ..scale import Job"] if shards else []),
                "    from .._messages import Progress",
                *([f"    from .._types import {', '.join(imported)}"] if imported else []),
            ]
        ),
        "",
        "",
        *(overload(name, signature, "None = None", result) if shards else []),
        *(overload(name, signature, "int", f"Job[{result}]") if shards else []),
        "@verb",
        f"def {name}(",
        *(f"    {parameter}," for parameter in signature),
        *(["    shards: int | None = None,"] if shards else []),
        f") -> {result}{f' | Job[{result}]' if shards else ''}:",
        *documentation(title, name, [*arguments, VERBOSE, PROGRESS, *([SHARDS] if shards else [])]),
        f"    return _outcomes.{'sharded_' if shards else ''}{outcome}(",
        f'        Request("{" ".join(command)}", locals(){kinds(arguments)})',
        "    )",
        "",
    ]
    return "\n".join(lines)


def overload(name: str, signature: list, shards: str, result: str) -> list:
    """The signature with and without shards, for type checkers."""
    return ["@overload", f"def {name}(", *(f"    {one}," for one in signature), f"    shards: {shards},", f") -> {result}: ...", "", ""]


def parameters(arguments: list, types: dict) -> list:
    """The parameters of the function: arguments, flags that have to be given, and after a star all others."""
    positional = [one for one in arguments if one.positional and not one.several]
    several = [one for one in arguments if one.positional and one.several]
    required = [one for one in arguments if not one.positional and one.required]
    others = [one for one in arguments if not one.positional and not one.required]
    # After an argument that may be left out there is none that has to be given.
    given = [one for one in positional if one.required] + (required if not several else [])
    left_out = [one for one in positional if not one.required] + [one for one in others if one.nameless]
    others = [one for one in others if not one.nameless]
    star = f"*{several[0].name}: {types[several[0].name]}" if several else "*"
    return [
        *(f"{one.name}: {types[one.name]}" for one in given),
        *(f"{one.name}: {types[one.name]} = None" for one in left_out),
        star,
        *(f"{one.name}: {types[one.name]}" for one in (required if several else [])),
        *(f"{one.name}: {types[one.name]} = {'False' if types[one.name] == 'bool' else 'None'}" for one in others),
        "verbose: int = 0",
        "progress: Progress = None",
    ]


def type_of(argument: Argument) -> str:
    kind = base_type(argument)
    if kind == "bool" and not argument.choices:
        return kind
    if argument.positional and argument.several:
        return kind
    if argument.repeats or argument.joined:
        kind = f"Many[{kind}]"
    return kind if argument.required else f"{kind} | None"


def base_type(argument: Argument) -> str:
    value, default = argument.value, argument.default
    if argument.choices == ["true", "false"]:
        return "bool"
    if argument.choices:
        return "Literal[" + ", ".join(f'"{choice}"' for choice in argument.choices) + "]"
    if not value:
        return "bool"
    if argument.name == "inputs" or argument.name == "predictions" and argument.positional:
        return "object"
    if argument.name == "set":
        return "Selector"
    if argument.pairs or argument.selector:
        return "Selector"
    if argument.listed:
        return "Many[str] | int" if "N" in value.split("|") else "Many[str]"
    if argument.name == "doses" and "|" in value:
        return "Many[Scalar]"
    if value == "SIZE" or re.fullmatch(r"[0-9]*\.[0-9]+", default):
        return "float"
    if re.fullmatch(r"[0-9]+", default) or value in ("N", "FIRST") or argument.name in NUMBERS:
        return "int"
    if argument.name in ("batch_size", "library", "max_bytes", "file_size", "memory"):
        return "Scalar"
    is_path = argument.positional or argument.name == "out" or re.search("FILE|FOLDER|PATH|ATLAS|MODEL|atlas", value)
    return "StrPath" if is_path and argument.name not in ("name", "shell") else "str"


def kinds(arguments: list) -> str:
    """The facts about arguments that `Request` needs."""
    text = ""
    for kind, has in (
        ("positional", lambda one: one.positional),
        ("joined", lambda one: one.joined),
        ("pairs", lambda one: one.pairs),
        ("texts", lambda one: one.value and one.choices == ["true", "false"]),
        ("listed", lambda one: one.listed),
    ):
        names = " ".join(one.name for one in arguments if has(one))
        text += f', {kind}="{names}"' if names else ""
    return text


def documentation(title: str, name: str, arguments: list) -> list:
    lines = [f'    """{title}.', "", "    Args:"]
    for one in arguments:
        lines += textwrap.wrap(
            f"{one.name}: {one.text}", WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12, break_on_hyphens=False
        )
    text = "\n".join([*lines, '    """'])
    return [text.replace("\\", "\\\\")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not current")
    options = parser.parse_args()
    files = verbs(options.program)
    present = {path.name: path.read_text() for path in HOME.glob("*.py")}
    stale = sorted(name for name in {*files, *present} if files.get(name) != present.get(name))
    if options.check:
        if stale:
            sys.exit(f"not current: {', '.join(stale)}; scripts/python_verbs.py PROGRAM writes them")
        return
    for name in stale:
        if name in files:
            (HOME / name).write_text(files[name])
        else:
            (HOME / name).unlink()


if __name__ == "__main__":
    main()
