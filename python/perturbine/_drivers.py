"""How shards are handed to executors: those of `concurrent.futures`, dask's client, ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ._errors import error_of


class Driver(Protocol):
    """The part of an executor that a job uses."""

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
