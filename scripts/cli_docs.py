#!/usr/bin/env python3
"""Prints docs/cli.md: the help of every command.

    python3 scripts/cli_docs.py target/release/perturbine > docs/cli.md

`tests/documented.rs` compares the page with the program.
"""

import os
import subprocess
import sys

HEAD = """# Command line

The help of every command, as `perturbine COMMAND --help` prints it. `scripts/cli_docs.py` writes this page.
"""


def help_of(program, command):
    # Lines are as wide as without a terminal.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    ran = subprocess.run([program, *command, "--help"], env=environment, capture_output=True, text=True, check=True)
    return ran.stdout


def commands(text):
    """The commands that a help lists, without `help` itself."""
    names, listing = [], False
    for line in text.splitlines():
        if line == "Commands:":
            listing = True
        elif listing and not line:
            break
        elif listing and line.startswith("  ") and not line.startswith("   "):
            names.append(line.split()[0])
    return [name for name in names if name != "help"]


def sections(program, command=()):
    """The help of a command and of its subcommands, by title."""
    text = help_of(program, command)
    yield " ".join(("perturbine", *command)), text
    for name in commands(text):
        yield from sections(program, (*command, name))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(HEAD)
    print("\n".join(f"## {title}\n\n```text\n{text.rstrip()}\n```\n" for title, text in sections(sys.argv[1])), end="")


if __name__ == "__main__":
    main()
