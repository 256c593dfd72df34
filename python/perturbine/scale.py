"""Commands in shards, for schedulers and clusters.

    job = pb.predict("kang.model", "kang.atlas", to="pairs", output="cells", out="pairs", shards=64)     # nothing runs yet
    job.run(concurrent.futures.ThreadPoolExecutor(2))

Each shard is a command that may run anywhere with access to the same folders, in any order, and again after a failure. The result appears
when all of them are complete, and is what a single run would have written. With `shard_out`, a shard is a folder of its own there, and
the files that workers write come back through the engine.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._arguments import Request
from ._drivers import driver_of
from ._errors import Error, error_of
from ._shards import Portable, Together, place_of, run_shard

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Job", "run_shard"]

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
        if any(request.given.get(name) for name in ("progress", "shard", "plan_only", "dry_run", "commit")):
            message = "shards run elsewhere: neither `progress`, `shard`, `plan_only`, `dry_run` nor `commit` goes with `shards`"
            raise error_of(2, message, "leave them out")
        if request.has_lists():
            raise error_of(2, "a list of names is a file here, which workers do not see", "write them to a file in a shared folder")
        self.shards = shards
        self.out = out
        self._request = request
        self._result = result
        self._place: Together | Portable = place_of(request, out, shards)

    def run(self, executor: Any, *, retries: int = 0, **options: Any) -> Result:
        """Runs the shards that are not complete yet, and publishes the result.

        Args:
            executor: what has `submit`, as the executors of `concurrent.futures` and dask's `Client` do; or the module `ray`.
            retries: how often a shard is tried again that was killed, or whose disk failed.
            options: for dask's `submit` or for `ray.remote`, such as `resources={"GPU": 1}` or `num_gpus=1`.
        """
        driver = driver_of(executor, options)
        missing = self._place.missing()
        if missing:
            # Whatever is wrong with the request is raised here, before anything is queued.
            units = self.plan()["units"]
            if self.shards > units:
                of = f"{units} unit{'s' if units != 1 else ''}: {self.shards - units} of them are empty"
                warnings.warn(f"{self.shards} shards, but {of}", stacklevel=2)
        here = os.getcwd()

        def submit(shard: int) -> Any:
            return driver.submit(self._place.task, here, self._place.arguments(shard))

        waiting = {shard: submit(shard) for shard in missing}
        tries = dict.fromkeys(waiting, retries)
        try:
            while waiting:
                shard, future = next(iter(waiting.items()))
                try:
                    done = driver.wait(future)
                    del waiting[shard]
                    self._place.receive(shard, done)
                except Error as error:
                    if not tries[shard] or not (error.code in AGAIN or error.code > 128):
                        raise
                    tries[shard] -= 1
                    # Behind the others: what made it fail may have passed by then.
                    waiting.pop(shard, None)
                    waiting[shard] = submit(shard)
        finally:
            for future in waiting.values():
                driver.cancel(future)
        return self.commit()

    def plan(self) -> dict[str, Any]:
        """The checksum of the plan, what it is made from, and its number of units; more shards than these have nothing to do."""
        given = {name: value for name, value in self._request.given.items() if name != "shard_out"}
        return self._request.with_given({**given, "plan_only": True}).run()

    def commit(self) -> Result:
        """Publishes the result of shards that ran elsewhere."""
        return self._result(self.out, Request(self._request.command, self._place.commit()).run())

    def commands(self) -> list[str]:
        """A command line for each shard, to be run in this folder; `commit_command` comes when all are done."""
        return [_line(self._place.arguments(shard)) for shard in range(self.shards)]

    def commit_command(self) -> str:
        """The command line that publishes the result."""
        return _line(Request(self._request.command, self._place.commit()).command_line())

    def status(self) -> list[bool]:
        """Whether each shard is complete."""
        missing = set(self._place.missing())
        return [shard not in missing for shard in range(self.shards)]

    def __repr__(self) -> str:
        return f"{self.shards} shards of {self.out}: {sum(self.status())} complete"


def _line(words: list[str]) -> str:
    import shlex

    return shlex.join(["perturbine", *words])
