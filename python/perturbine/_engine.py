"""Runs the `perturbine` program as a child process.

The program has a session of its own, so that a terminal's Ctrl-C reaches it once, from here, and not a second time. It stops by itself,
with a checkpoint, when its standard input closes: when this process ends, however that happens.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ._errors import Error, error_of
from ._messages import Messages, Progress
from ._program import environment, program

PATIENCE = 20.0
"""Seconds that a program has to write its checkpoint before it is ended."""

PIPE_BYTES = 1 << 20
"""The size of the pipe of results: with 64 KiB, the usual one, reader and writer wake each other for every few rows."""


class Run:
    """One run of the program. Ends with `report`, or with `finish` after its standard output was read."""

    def __init__(self, arguments: Sequence[str], progress: Progress = None, folder: str | None = None) -> None:
        switches = ["--json", "--stop-on-eof"]
        if callable(progress):
            switches.append("--progress=json")
        # A command's own switches come before its arguments, which may follow `--`.
        command = [program(), *switches, *arguments]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pipesize=PIPE_BYTES,
                start_new_session=True,
                env=environment(),
                cwd=folder,
            )
        except OSError as error:
            raise error_of(74, f"{command[0]} could not be started: {error.strerror}") from error
        assert self._process.stdin is not None and self._process.stdout is not None and self._process.stderr is not None
        self.input, self.output = self._process.stdin, self._process.stdout
        self._owner = os.getpid()
        self._reader: threading.Thread | None = None
        self._messages = Messages(self._process.stderr, progress)
        self._watcher = threading.Thread(target=_watch, args=(self._process,), name="perturbine-end", daemon=True)
        self._watcher.start()

    def report(self) -> dict[str, Any]:
        """Waits for the end of the run, and returns the JSON object that it printed."""
        printed: list[bytes] = []
        self._reader = threading.Thread(target=lambda: printed.append(self.output.read()), daemon=True)
        self._reader.start()
        try:
            self._messages.show_all()
            self._reader.join()
            self.finish()
        except BaseException:
            self.stop()
            raise
        try:
            report: dict[str, Any] = json.loads(b"".join(printed))
        except ValueError:
            raise error_of(70, "the program ended without its result") from None
        return report

    def finish(self) -> None:
        """Waits for the end of the run, and raises its error if it failed."""
        self._messages.show_all()
        self._watcher.join()
        self._close()
        code = self._process.returncode
        if code != 0:
            raise self._failure(code)

    def is_running(self) -> bool:
        """Whether the program runs, as a child of this process."""
        return self._owner == os.getpid() and self._watcher.is_alive()

    @property
    def result(self) -> dict[str, Any]:
        """The report of a command that writes rows to standard output, once it has ended."""
        return self._messages.result

    def show(self) -> None:
        """Shows the progress that has been written so far."""
        self._messages.show()

    def stop(self) -> None:
        """Stops a program that runs still, as Ctrl-C does in a shell, and waits until it has written what it resumes from."""
        if self._watcher.is_alive():
            if self._reader is None:
                # A program that waits until its results are read does not see that it should stop.
                self.output.close()
            # Not by Popen, which may take the end of the program from the watcher.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)
            try:
                self._watcher.join(PATIENCE)
            except KeyboardInterrupt:
                # A second Ctrl-C: no checkpoint then.
                self.kill()
                raise
        self.kill()

    def kill(self) -> None:
        """Ends the program and what it started at once."""
        if self._watcher.is_alive():
            _kill_group(self._process.pid)
            self._watcher.join()
        self._close()

    def _close(self) -> None:
        """Closes the pipes of a program that has ended: before, standard input would ask it to stop."""
        if self._reader is not None:
            # It holds the pipe's lock until it has read the end.
            self._reader.join()
        self.hang_up()

    def hang_up(self) -> None:
        """Closes the pipes, for which a program that runs still would wait."""
        with suppress(BrokenPipeError):
            # Input that the program has not read is lost.
            self.input.close()
        self.output.close()

    def _failure(self, code: int) -> Error:
        error = self._messages.error
        if error is not None:
            return error_of(
                int(error.get("code") or code),
                str(error.get("message")),
                error.get("hint"),
                error.get("because") or (),
                error.get("kind"),
            )
        said = "\n".join(self._messages.last)
        if code < 0:
            return error_of(
                128 - code,
                f"the program was ended by {signal.Signals(-code).name} before it was done",
                "if memory may have run out, lower `memory` or `threads`" if -code == signal.SIGKILL else None,
                [said] if said else [],
            )
        return error_of(code, said or f"the program ended with code {code} and without a message")

    def __del__(self) -> None:
        # Nobody will read the results; the process must not outlive its reader. Without a watcher it was never started, and in a
        # process that was forked it belongs to the parent.
        if hasattr(self, "_watcher") and self._owner == os.getpid():
            self.kill()


def _watch(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of the program, and ends what it started: a reader of HDF5 files holds the program's standard streams open, and
    whoever reads them would wait for it."""
    # While the program is not waited for, no other process has its number. Where a process ignores its children, nobody needs to wait, and
    # the exit code is lost.
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _kill_group(process.pid)
    process.wait()


def _kill_group(leader: int) -> None:
    # All of the group may have ended.
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
