"""Where shards are written: beside the output, in a folder that all workers share, or each to a folder of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._arguments import Request
from ._errors import error_of

if TYPE_CHECKING:
    from pathlib import Path


class Together:
    """Shards beside the output. Each leaves a note there when it is complete; the newest plan is this job's."""

    def __init__(self, request: Request, out: Path, shards: int) -> None:
        self._request, self._out, self._shards = request, out, shards
        self.task = run_shard

    def missing(self) -> list[int]:
        """The shards to run."""
        if self._out.exists():
            return []
        plans = sorted(self._out.parent.glob(f".{self._out.name}.shards/*/shards"), key=os.path.getmtime)
        notes = {path.name for path in plans[-1].iterdir()} if plans else set()
        return [shard for shard in range(self._shards) if f"{shard}-of-{self._shards}.json" not in notes]

    def arguments(self, shard: int) -> list[str]:
        """The command line of a shard."""
        return _with_shard(self._request, f"{shard}/{self._shards}")

    def commit(self) -> dict[str, Any]:
        """The arguments of the command that publishes them."""
        return {"commit": self._out}

    def receive(self, shard: int, done: Any) -> None:
        """Takes what a task returned: its report, as the files are in their place."""


class Portable:
    """Shards in folders of their own, `shard-0` and so on, below a folder of the machine that publishes them."""

    def __init__(self, request: Request, out: Path, shards: int, folder: Path) -> None:
        self._request, self._out, self._shards, self._folder = request, out, shards, folder
        self.task = run_portable_shard

    def _of(self, shard: int) -> Path:
        return self._folder / f"shard-{shard}"

    def missing(self) -> list[int]:
        """The shards to run."""
        if self._out.exists():
            return []
        return [shard for shard in range(self._shards) if not (self._of(shard) / "_shard.json").exists()]

    def arguments(self, shard: int) -> list[str]:
        """The command line of a shard."""
        given = {name: value for name, value in self._request.given.items() if name != "out"}
        request = self._request.with_given({**given, "shard_out": self._of(shard)})
        return _with_shard(request, f"{shard}/{self._shards}")

    def commit(self) -> dict[str, Any]:
        """The arguments of the command that publishes them."""
        return {"commit": self._out, "from_": [self._of(shard) for shard in range(self._shards)]}

    def receive(self, shard: int, done: Any) -> None:
        """Puts the files that a task returned in their place, all at once."""
        import io
        import shutil
        import tarfile
        import tempfile

        _, files = done
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".shard-", dir=self._folder) as folder:
            with tarfile.open(fileobj=io.BytesIO(files)) as packed:
                packed.extractall(folder, filter="data")
            shutil.rmtree(self._of(shard), ignore_errors=True)
            os.rename(os.path.join(folder, "shard"), self._of(shard))


def place_of(request: Request, out: Path, shards: int) -> Together | Portable:
    """The place of a request's shards."""
    folder = request.path("shard_out")
    return Together(request, out, shards) if folder is None else Portable(request, out, shards, folder)


def _with_shard(request: Request, shard: str) -> list[str]:
    words = request.command_line()
    at = len(request.command.split())
    return [*words[:at], f"--shard={shard}", *words[at:]]


def run_shard(folder: str, arguments: list[str]) -> dict[str, Any]:
    """Runs one shard in this folder, on whichever machine that is, and returns its report."""
    # Imported here, as in a request: programs that run nothing do without.
    from ._engine import Run

    if not os.path.isdir(folder):
        raise error_of(
            66,
            f"the worker on {os.uname().nodename} does not see the folder {folder}",
            "start the job in a folder that all workers share, or that each has a copy of",
        )
    return Run(arguments, folder=folder).report()


def run_portable_shard(folder: str, arguments: list[str]) -> tuple[dict[str, Any], bytes]:
    """Runs one shard in a temporary folder of whichever machine that is, and returns its report and its files."""
    import io
    import tarfile
    import tempfile

    flag = "--shard-out="
    with tempfile.TemporaryDirectory() as temporary:
        shard = os.path.join(temporary, "shard")
        report = run_shard(folder, [flag + shard if word.startswith(flag) else word for word in arguments])
        files = io.BytesIO()
        with tarfile.open(fileobj=files, mode="w") as packed:
            packed.add(shard, "shard")
    return report, files.getvalue()
