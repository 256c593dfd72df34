"""The package's exceptions: one for each exit code of the `perturbine` program.

All are `Error`, with the message, hint, kind and code that the command line would print. Each is also the built-in exception that
Python's users expect: a `ValueError` for data and arguments, a `FileNotFoundError` for an input that is missing, an `OSError` for what
cannot be written.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable


class Error(Exception):
    """An error, with a hint how to mend it.

    Attributes:
        message: what went wrong; names the file, column, row or value.
        hint: what to do about it, or None.
        kind: a word for `code`, such as `data` or `missing_input`.
        code: the exit code of the same command in a shell.
        because: deeper causes, outermost first.
    """

    def __init__(
        self, message: str, hint: str | None = None, code: int = 70, kind: str = "bug", because: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.kind = kind
        self.because = tuple(because)

    def __str__(self) -> str:
        lines = [self.message, *(f"  because: {cause}" for cause in self.because)]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # The usual way of pickling calls the class with `args`, which hold the message alone.
        return error_of, (self.code, self.message, self.hint, self.because, self.kind)


class UsageError(Error, ValueError):
    """An argument or setting is invalid, or an output exists already (code 2)."""


class DataError(Error, ValueError):
    """Bad data, or a name that is not known (code 65)."""


class MissingInputError(Error, FileNotFoundError):
    """An input does not exist (code 66)."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.errno = errno.ENOENT


class NoSpaceError(Error, OSError):
    """The disk is full, or the output would not fit (code 28)."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.errno = errno.ENOSPC


class OutputError(Error, OSError):
    """An output cannot be created, or reading or writing failed (codes 73 and 74)."""


class Stopped(Error):
    """The run was stopped and can be resumed, or another process writes the same output (code 75)."""


class BugError(Error, RuntimeError):
    """A bug in Perturbine, or a program that ended without a message (code 70, and 128 + n after signal n)."""


KINDS: dict[int, tuple[str, type[Error]]] = {
    2: ("usage", UsageError),
    28: ("no_space", NoSpaceError),
    65: ("data", DataError),
    66: ("missing_input", MissingInputError),
    70: ("bug", BugError),
    73: ("cant_create", OutputError),
    74: ("io", OutputError),
    75: ("stopped", Stopped),
}


def error_of(
    code: int, message: str, hint: str | None = None, because: Iterable[str] = (), kind: str | None = None
) -> Error:
    """The exception of an exit code. Codes that are not in the table, such as those after a signal, are a `BugError`."""
    usual, exception = KINDS.get(code, ("ended", BugError))
    return exception(message, hint, code, kind or usual, because)
