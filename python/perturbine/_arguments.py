"""From the arguments of a Python call to those of a command line."""

from __future__ import annotations

import functools
import json
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from ._errors import Error, error_of

if TYPE_CHECKING:
    from pathlib import Path

    from ._engine import Run

Verb = TypeVar("Verb", bound=Callable[..., Any])

OWN = ("progress", "verbose")
"""Arguments that are not flags of the same name."""


def verb(function: Verb) -> Verb:
    """Checks the names of a call's arguments before anything starts, with errors like those of the command line."""
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    optional = {*positional[len(positional) - len(function.__defaults__ or ()) :], *(function.__kwdefaults__ or ())}
    required = [name for name in names if name not in optional]

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        for name in named:
            if name not in names:
                raise _unknown(function.__name__, name, names)
        given = {*positional[: len(arguments)], *named}
        missing = [name for name in required if name not in given]
        if missing:
            raise missing_argument(function.__name__, missing[0])
        return function(*arguments, **named)

    return call  # type: ignore[return-value]


def _unknown(function: str, name: str, names: Iterable[str]) -> Error:
    import difflib

    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    near = f"; the nearest: {', '.join(nearest)}" if nearest else ""
    return error_of(
        2, f"`{function}` has no argument `{name}`{near}", f"help(perturbine.{function}) shows all arguments"
    )


def missing_argument(function: str, name: str) -> Error:
    """The error about an argument that has to be given."""
    return error_of(2, f"`{function}` needs the argument `{name}`", f"help(perturbine.{function}) says what it is")


class Request:
    """A command and its arguments, with the temporary files that some of them need until the command ends."""

    def __init__(
        self,
        command: str,
        given: Mapping[str, Any],
        *,
        positional: str = "",
        joined: str = "",
        pairs: str = "",
        texts: str = "",
        listed: str = "",
    ) -> None:
        """
        Args:
            command: the command, with its subcommand if it has one.
            given: the arguments by name; those that are None, False or absent are left out.
            positional: names of the arguments that have no flag, in order.
            joined: names of those whose lists are joined by commas; other lists repeat the flag.
            pairs: names of those that take one `key=value` for each entry of a mapping.
            texts: names of those that take `true` or `false`.
            listed: names of those whose lists are written to a file, one name per line.
        """
        self.command = command
        self.given = {name: value for name, value in given.items() if value is not None}
        self.positional = positional.split()
        self.kinds = {
            name: kind
            for kind, names in (("joined", joined), ("pairs", pairs), ("texts", texts), ("listed", listed))
            for name in names.split()
        }
        self._files = ExitStack()

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *ended: object) -> None:
        self._files.close()

    def path(self, name: str) -> Path | None:
        """An argument that is a path."""
        value = self.given.get(name)
        return None if value is None else path_of(value)

    def with_given(self, given: Mapping[str, Any]) -> Request:
        """The same command with other arguments."""
        other = Request(self.command, given)
        other.positional, other.kinds = self.positional, self.kinds
        return other

    def has_lists(self) -> bool:
        """Whether a list of names has to be written to a file."""
        return any(self.kinds.get(name) == "listed" and _is_list(value) for name, value in self.given.items())

    def command_line(self) -> list[str]:
        """The command with its flags and arguments."""
        words = self.command.split()
        for name, value in self.given.items():
            if name not in OWN and name not in self.positional:
                flag = "--" + name.rstrip("_").replace("_", "-")
                words += self._flag(flag, name, value)
        words += ["-v"] * int(self.given.get("verbose", 0))
        values = [text for name in self.positional for text in texts_of(self.given.get(name, ()))]
        return [*words, "--", *values] if values else words

    def run(self) -> dict[str, Any]:
        """Runs the command to its end, and returns the JSON object that it printed."""
        return self.start().report()

    def start(self) -> Run:
        """Starts the command."""
        # Imported here: starting processes takes a third of the package's imports, and many programs only read atlases.
        from ._engine import Run

        return Run(self.command_line(), self.given.get("progress"))

    def _flag(self, flag: str, name: str, value: Any) -> list[str]:
        kind = self.kinds.get(name)
        if kind == "texts":
            return [f"{flag}={text_of(value)}"]
        if isinstance(value, bool):
            return [flag] if value else []
        if kind == "pairs" and isinstance(value, Mapping):
            return [f"{flag}={_quoted(key, '=')}={_setting(item)}" for key, item in value.items()]
        if kind == "listed" and _is_list(value):
            return [f"{flag}={self._file_of(value)}"]
        if kind == "joined" and _is_list(value):
            items = list(value)
            lists = items if items and _is_list(items[0]) else [items]
            return [f"{flag}={','.join(_quoted(text_of(item), ',') for item in part)}" for part in lists]
        return [f"{flag}={text}" for text in texts_of(value)]

    def _file_of(self, names: Iterable[Any]) -> str:
        import tempfile

        file = self._files.enter_context(tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8"))
        file.writelines(f"{text_of(name)}\n" for name in names)
        file.flush()
        return file.name


def path_of(value: Any) -> Path:
    """A path, or that of an atlas or model."""
    # Imported here: it takes as long as half of this package.
    from pathlib import Path

    return Path(text_of(value))


def texts_of(value: Any) -> list[str]:
    """A value, or each value of a list; a mapping is one selector, as in `condition=A+B,dose=1`."""
    if _is_list(value):
        return [text for item in value for text in texts_of(item)]
    if isinstance(value, Mapping):
        return [",".join(f"{_quoted(text_of(key), ',=')}={_quoted(text_of(item), ',')}" for key, item in value.items())]
    return [text_of(value)]


def text_of(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, os.PathLike)):
        return os.fsdecode(value)
    # An atlas or model stands for its path.
    path = getattr(value, "path", None)
    if isinstance(path, (str, os.PathLike)):
        return os.fsdecode(path)
    if hasattr(value, "__index__"):
        return str(operator.index(value))
    if hasattr(value, "__float__"):
        return repr(float(value))
    raise error_of(2, f"{value!r} is not a text, number, path, atlas or model", "write it as on the command line")


def _setting(value: Any) -> str:
    """A setting's value: a list as in a TOML file, anything else as it is."""
    return json.dumps(list(value)) if _is_list(value) else text_of(value)


def _is_list(value: Any) -> bool:
    # A path is iterable in none of its forms; an atlas or model may be, but stands for its path.
    named = (str, bytes, os.PathLike, Mapping)
    return isinstance(value, Iterable) and not isinstance(value, named) and not hasattr(value, "path")


def _quoted(text: str, separators: str) -> str:
    """The text in a form that is read back although separators surround it (schemas/src/quoting.rs)."""
    if text and not any(one in text for one in separators) and not text.startswith('"') and text.strip() == text:
        return text
    return '"' + text.replace('"', '""') + '"'
