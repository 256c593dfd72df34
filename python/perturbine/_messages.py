"""Messages of a running program on standard error: progress, notes, and at the end an error."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import IO, Any, Union

Progress = Union[bool, Callable[[dict[str, Any]], object], None]
"""How progress is shown: True writes it to `sys.stderr`, a function is called with each event, None logs it."""

KEPT = 20
"""Lines that are kept for the message about a program that ends without an error of its own."""


class Messages:
    """The lines of a program's standard error, read on a thread so that the program never waits for a reader."""

    def __init__(self, source: IO[bytes], progress: Progress) -> None:
        self.error: dict[str, Any] | None = None
        self.result: dict[str, Any] = {}
        """The report of a command that writes rows to standard output."""
        self.last: deque[str] = deque(maxlen=KEPT)
        self._progress = progress
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(source,), name="perturbine-messages", daemon=True).start()

    def _read(self, source: IO[bytes]) -> None:
        with source:
            for line in source:
                self._lines.put(line.decode("utf-8", "replace").rstrip("\n"))
        self._lines.put(None)

    def show(self) -> None:
        """Shows what has been written so far."""
        while not self._lines.empty():
            line = self._lines.get()
            if line is None:
                self._lines.put(None)
                return
            self._show(line)

    def show_all(self) -> None:
        """Shows everything until the program closes its standard error. An exception of a callback ends it."""
        while (line := self._lines.get()) is not None:
            self._show(line)
        self._lines.put(None)

    def _show(self, line: str) -> None:
        message = _object(line)
        if message is not None and isinstance(message.get("error"), dict):
            self.error = message["error"]
        elif message is not None and message.get("event") == "result":
            self.result = message["result"]
        elif message is not None and "rows" in message:
            self.result = message
        else:
            self.last.append(line)
            self._pass_on(line, message)

    def _pass_on(self, line: str, message: dict[str, Any] | None) -> None:
        if callable(self._progress):
            # Lines of other origin, such as a warning of a library, are not JSON.
            self._progress(message if message is not None else {"event": "text", "message": line})
        elif self._progress:
            print(line, file=sys.stderr, flush=True)
        else:
            import logging

            level = logging.WARNING if line.startswith("warn: ") else logging.INFO
            logging.getLogger("perturbine").log(level, "%s", line)


def _object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
