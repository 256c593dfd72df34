"""The command `perturbine`: becomes the program, with the same arguments."""

import os
import sys

from ._errors import Error
from ._program import environment, program


def main() -> None:
    """Replaces this process with the program, so that signals, streams and the exit code are its own."""
    try:
        path = program()
        sys.stdout.flush()
        os.execve(path, [path, *sys.argv[1:]], environment())
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
