"""How shards are handed to executors: those of `concurrent.futures`, dask's client, ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ._errors import error_of


OF_RAY = {"num_gpus": "GPU", "num_cpus": "CPU", "memory": "memory"}
"""Options of `ray.remote`, by what ray's machines call them."""


class Driver(Protocol):
    """The part of an executor that a job uses. It is made only where the engine has what its options ask for."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call elsewhere, and returns its future."""

    def wait(self, future: Any) -> Any:
        """The result of a call, or its exception."""

    def cancel(self, future: Any) -> None:
        """Takes back a call that has not begun."""


class Futures:
    """An executor with `submit`, whose futures have `result` and `cancel`."""

    def __init__(self, executor: Any, options: Mapping[str, Any]) -> None:
        self._executor, self._options = executor, dict(options)
        if type(executor).__module__.partition(".")[0] == "distributed":
            # Dask takes two calls with the same arguments for one, and a shard that is tried again would not be.
            self._options.setdefault("pure", False)
            refuse_absent(self._options.get("resources"), [worker["resources"] for worker in _workers(executor)], "dask")

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call elsewhere, and returns its future."""
        return self._executor.submit(function, *arguments, **self._options)

    def wait(self, future: Any) -> Any:
        """The result of a call, or its exception."""
        return future.result()

    def cancel(self, future: Any) -> None:
        """Takes back a call that has not begun."""
        future.cancel()


class Ray:
    """The module `ray`; options are those of `ray.remote`."""

    def __init__(self, ray: Any, options: Mapping[str, Any]) -> None:
        self._ray, self._options = ray, dict(options)
        asked = {**options.get("resources", {}), **{name: options[key] for key, name in OF_RAY.items() if options.get(key)}}
        if asked and not ray.is_initialized():
            ray.init()
        if asked:
            refuse_absent(asked, [node["Resources"] for node in ray.nodes() if node["Alive"]], "ray")

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Starts a call elsewhere, and returns its future."""
        remote = self._ray.remote(**self._options)(function) if self._options else self._ray.remote(function)
        return remote.remote(*arguments)

    def wait(self, future: Any) -> Any:
        """The result of a call, or its exception."""
        try:
            return self._ray.get(future)
        except self._ray.exceptions.RayTaskError as error:
            # Ours, without ray's own traceback around it.
            raise error.cause from None

    def cancel(self, future: Any) -> None:
        """Takes back a call that has not begun."""
        self._ray.cancel(future)


def _workers(client: Any) -> list[Mapping[str, Any]]:
    """Dask's workers; there are more than it shows unless it is asked for all."""
    return list(client.scheduler_info(n_workers=-1)["workers"].values())


def refuse_absent(asked: Mapping[str, float] | None, had: list[Mapping[str, float]], engine: str) -> None:
    """Refuses what no machine of an engine has: its tasks would wait for ever."""
    for name, count in (asked or {}).items():
        most = max((machine.get(name, 0) for machine in had), default=0)
        if most < count:
            raise error_of(
                2,
                f"{engine} sees no worker with {name} {count:g}: the most is {most:g} on {len(had)} workers",
                f"start {engine}'s workers with it, or ask for less",
            )


def driver_of(executor: Any, options: Mapping[str, Any]) -> Driver:
    """The driver for an executor."""
    if getattr(executor, "__name__", None) == "ray":
        return Ray(executor, options)
    if callable(getattr(executor, "submit", None)):
        return Futures(executor, options)
    raise error_of(
        2,
        f"an executor of the type {type(executor).__name__} has no `submit`",
        "give an executor of concurrent.futures, dask's Client, or the module ray",
    )
