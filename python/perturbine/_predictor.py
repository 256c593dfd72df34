"""Predictions of cells that are in another program's tables, such as Ray's."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Literal

from ._arguments import Request, path_of
from ._errors import Error, error_of
from ._optional import optional

if TYPE_CHECKING:
    import pyarrow

    from ._engine import Run
    from ._types import Many, Scalar, Selector, StrPath

ROWS = b"rows"
"""The key of an answer's metadata with the number of its rows."""


class Predictor:
    """Predicts the cells of pyarrow tables under other conditions, a table at a time, as `predict` does those of an atlas.

        cells.map_batches(pb.Predictor("kang.model"), batch_format="pyarrow")                   # a ray.data.Dataset, in tasks
        cells.map_batches(pb.Predictor, fn_constructor_kwargs={"model": "kang.model"}, batch_format="pyarrow", concurrency=2)    # in actors

    A table has a row for each cell: its name in `cell`, the covariates of the model, and its values, either in the lists of `expression`
    (for the model's genes in their order, or for those that the schema's metadata names under `genes`) or in a column for each gene. Those
    are the columns of predicted cells, too. If there is a column `condition`, or that of the model's training, only controls are
    predicted; without one, all cells are.

    The rows are those of `predict` with `output="cells"` or `"latent"`: one for each cell and condition. They depend on nothing else in the
    table. The first call in a process starts a program, which keeps the model for all predictors with the same arguments until `close` or
    the end of the process; pickled, a predictor is only its arguments.
    """

    def __init__(
        self,
        model: StrPath,
        *,
        to: Many[Selector] | None = None,
        output: Literal["cells", "latent"] = "cells",
        unseen: Literal["error", "skip", "embedding"] | None = None,
        unseen_covariate: Literal["error", "mean"] | None = None,
        batch: str | None = None,
        genes: Many[str] | None = None,
        library: Scalar | None = None,
        output_scale: Literal["counts", "cp10k", "log1p_cp10k", "values"] | None = None,
        missing_genes: Literal["error", "zero"] | None = None,
        device: str | None = None,
        threads: int | None = None,
        memory: Scalar | None = None,
    ) -> None:
        """
        Args:
            model: the model's folder, which every process has to see.
            to: conditions to predict, in the covariates of each cell, or only in those that a selector names; a `.csv` file of them; or
                `pairs`. Left out, all that the model was trained on.
            output: expression, or the latents basal, corrected (without the batch) and after.

        All other arguments are those of `predict`.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "model")}
        # Workers may run in other folders.
        given.update(to=_whole(to), genes=_whole(genes))
        self._given = {**given, "model": os.path.abspath(path_of(model)), "atlas": "-", "out": "-"}

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """The predicted rows of a table of cells."""
        pyarrow = optional("pyarrow")
        if not isinstance(table, pyarrow.Table):
            message = f"a predictor takes tables of pyarrow, and this is a {type(table).__name__}"
            raise error_of(2, message, 'give `map_batches` the argument batch_format="pyarrow"')
        return self._server().answer(pyarrow, _plain(pyarrow, table))

    def _server(self) -> Server:
        """The program of this process: ray makes a predictor of its pickle for every task, and each would start its own."""
        return SERVERS.setdefault((os.getpid(), repr(self._given)), Server(self._given))

    def close(self) -> None:
        """Ends the program that predictors with these arguments have in this process; the next call starts another."""
        self._server().end()

    def __repr__(self) -> str:
        return f"Predictor({self._given['model']!r})"


class Server:
    """A program that answers tables with predictions, started at the first one, and again after it has ended."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._version: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._request: Request | None = None

    def answer(self, pyarrow: Any, table: pyarrow.Table) -> pyarrow.Table:
        """The predicted rows of a table."""
        version = _version_of(self._given["model"])
        with self._lock:
            if self._run is None or not self._run.is_running() or self._version != version:
                self._stop()
                self._version = version
                # A list of genes is in a temporary file as long as its request.
                self._request = Request("predict", self._given, positional="model atlas", listed="genes")
                self._run = self._request.start()
            try:
                rows = _answer(pyarrow, self._run, table)
            except BaseException:
                # Later output of the program may belong to this table.
                self._stop()
                raise
            self._run.show()
        return rows

    def end(self) -> None:
        """Ends the program."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.kill()
        if self._request is not None:
            self._request.__exit__()


SERVERS: dict[tuple[int, str], Server] = {}
"""The programs of this process, by its number, which a fork changes, and their arguments."""


def _whole(value: Any) -> Any:
    """The path of a file from the root; any other value as it is."""
    return os.path.abspath(value) if isinstance(value, (str, os.PathLike)) and os.path.isfile(value) else value


def _version_of(model: str) -> tuple[int, int] | None:
    """The identity of a model's card, which a new training changes; None without a card, about which the program raises an error."""
    try:
        card = os.stat(os.path.join(model, "model.json"))
    except OSError:
        return None
    return card.st_ino, card.st_mtime_ns


def _answer(pyarrow: Any, run: Run, table: pyarrow.Table) -> pyarrow.Table:
    try:
        with pyarrow.ipc.new_stream(run.input, table.schema) as stream:
            stream.write_table(table)
        run.input.flush()
        rows = pyarrow.ipc.open_stream(run.output).read_all()
    except (OSError, ValueError) as broken:
        raise _failure(run, f"damaged: {broken}") from broken
    metadata = dict(rows.schema.metadata or {})
    # A stream that is cut between two batches reads as if it were complete.
    if metadata.pop(ROWS, None) != str(rows.num_rows).encode():
        raise _failure(run, "cut")
    return rows.replace_schema_metadata(metadata)


def _failure(run: Run, how: str) -> Error:
    """The error about a stream of predictions, unless the program's own says why."""
    run.hang_up()
    run.finish()
    return error_of(74, f"the stream of predictions is {how}", "predict the table again")


def _plain(pyarrow: Any, table: pyarrow.Table) -> pyarrow.Table:
    """The table with types of Arrow's own: ray keeps lists of one length as tensors."""
    for at, field in enumerate(table.schema):
        if isinstance(field.type, pyarrow.BaseExtensionType):
            chunks = [chunk.storage for chunk in table.column(at).chunks]
            table = table.set_column(at, field.name, pyarrow.chunked_array(chunks, type=field.type.storage_type))
    return table
