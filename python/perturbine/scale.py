"""Commands in shards, for schedulers and clusters.

    job = pb.predict("kang.model", "kang.atlas", to="pairs", output="cells", out="pairs", shards=64)     # nothing runs yet
    job.run(concurrent.futures.ThreadPoolExecutor(2))

Each shard is a command that may run anywhere with access to the same folders, in any order, and again after a failure. The result appears
when all of them are complete, and is what a single run would have written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._arguments import Request
from ._drivers import driver_of
from ._errors import Error, error_of

if TYPE_CHECKING:
    from pathlib import Path

Result = TypeVar("Result")

AGAIN = (74, 75)
"""Codes after which the same shard may succeed: a failing disk or network, another process that holds the shard."""


class Job(Generic[Result]):
    """A command in shards.

    Attributes:
        shards: how many there are.
        out: what is written once all are complete.
    """

    def __init__(self, request: Request, shards: int, result: Callable[[Path, Mapping[str, Any]], Result]) -> None:
        out = request.path("out")
        if out is None:
            raise error_of(2, "shards are written to a folder", "name it with `out`")
        if shards < 1:
            raise error_of(2, f"there are {shards} shards; one is the least", "leave `shards` out to run here")
        if any(request.given.get(name) for name in ("progress", "shard", "shard_out", "plan_only")):
            message = "shards run elsewhere: neither `progress`, `shard`, `shard_out` nor `plan_only` goes with `shards`"
            raise error_of(2, message, "leave them out")
        if request.has_lists():
            raise error_of(2, "a list of names is a file here, which workers do not see", "write them to a file in a shared folder")
        self.shards = shards
        self.out = out
        self._request = request
        self._result = result

    def run(self, executor: Any, *, retries: int = 0, **options: Any) -> Result:
        """Runs the shards that are not complete yet, and publishes the result.

        Args:
            executor: what has `submit`, as the executors of `concurrent.futures` and dask's `Client` do; or the module `ray`.
            retries: how often a shard is tried again that was killed, or whose disk failed.
            options: for dask's `submit` or for `ray.remote`, such as `resources={"GPU": 1}` or `num_gpus=1`.
        """
        driver = driver_of(executor, options)
        here = os.getcwd()
        waiting = {shard: driver.submit(run_shard, here, self._arguments(shard)) for shard in self._missing()}
        tries = dict.fromkeys(waiting, retries)
        try:
            while waiting:
                shard, future = next(iter(waiting.items()))
                try:
                    driver.wait(future)
                    del waiting[shard]
                except Error as error:
                    if not tries[shard] or not (error.code in AGAIN or error.code > 128):
                        raise
                    tries[shard] -= 1
                    # Behind the others: what made it fail may have passed by then.
                    del waiting[shard]
                    waiting[shard] = driver.submit(run_shard, here, self._arguments(shard))
        finally:
            for future in waiting.values():
                driver.cancel(future)
        return self.commit()

    def commit(self) -> Result:
        """Publishes the result of shards that ran elsewhere."""
        return self._result(self.out, Request(self._request.command, {"commit": self.out}).run())

    def commands(self) -> list[str]:
        """A command line for each shard, to be run in this folder; `commit_command` comes when all are done."""
        return [_line(self._arguments(shard)) for shard in range(self.shards)]

    def commit_command(self) -> str:
        """The command line that publishes the result."""
        return _line([*self._request.command.split(), f"--commit={self.out}"])

    def status(self) -> list[bool]:
        """Whether each shard is complete."""
        missing = set(self._missing())
        return [shard not in missing for shard in range(self.shards)]

    def _missing(self) -> list[int]:
        """The shards to run. Each leaves a note beside the result when it is complete; the newest plan is this job's."""
        if self.out.exists():
            return []
        plans = sorted(self.out.parent.glob(f".{self.out.name}.shards/*/shards"), key=os.path.getmtime)
        notes = {path.name for path in plans[-1].iterdir()} if plans else set()
        return [shard for shard in range(self.shards) if f"{shard}-of-{self.shards}.json" not in notes]

    def _arguments(self, shard: int) -> list[str]:
        words = self._request.command_line()
        at = len(self._request.command.split())
        return [*words[:at], f"--shard={shard}/{self.shards}", *words[at:]]

    def __repr__(self) -> str:
        return f"{self.shards} shards of {self.out}: {sum(self.status())} complete"


def _line(words: list[str]) -> str:
    import shlex

    return shlex.join(["perturbine", *words])


def run_shard(folder: str, arguments: list[str]) -> dict[str, Any]:
    """Runs one shard in this folder, on whichever machine that is, and returns its report."""
    # Imported here, as in a request: programs that run nothing do without.
    from ._engine import Run

    if not os.path.isdir(folder):
        raise error_of(
            66,
            f"the worker on {os.uname().nodename} does not see the folder {folder}",
            "start the job in a folder that all workers share",
        )
    return Run(arguments, folder=folder).report()
