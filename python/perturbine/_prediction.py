"""Predictions, embeddings and dose curves: a stream from the program, or files that it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._errors import error_of
from ._optional import optional

if TYPE_CHECKING:
    from pathlib import Path

    import anndata
    import pandas
    import polars
    import pyarrow

    from ._engine import Run


class Prediction:
    """Rows that the program computed: an Arrow stream, which pyarrow, polars, duckdb and pandas take as it is.

    Without `out` the rows come from the running program and can be read once. With `out` they are in files, and can be read again.

    Attributes:
        path: the file or folder that was written, or None for a stream.
        summary: what the command reported, such as what it skipped; for a stream, once it was read to its end.
    """

    def __init__(self, run: Run | None = None, path: Path | None = None, summary: dict[str, Any] | None = None) -> None:
        self.path = path
        self.summary = summary or {}
        self._run = run

    def reader(self) -> pyarrow.RecordBatchReader:
        """A pyarrow reader of the rows, batch by batch."""
        if self.path is not None:
            return _files(self.path)
        pyarrow = optional("pyarrow")
        run, self._run = self._run, None
        if run is None:
            raise error_of(
                2,
                "these predictions are a stream that was read before, or were never computed",
                "keep the table of `to_arrow()`, write files with `out=`, or predict again",
            )
        batches = _received(run, lambda: pyarrow.ipc.open_stream(run.output))
        return pyarrow.RecordBatchReader.from_batches(batches.schema, self._batches(run, batches))

    def _batches(self, run: Run, batches: pyarrow.RecordBatchReader) -> Iterator[pyarrow.RecordBatch]:
        """The batches of a stream. It ends when the program has ended well and all its rows are here: readers take a stream that is cut
        between two batches, as that of a program that was killed, for complete."""
        rows = 0
        try:
            while (batch := _received(run, lambda: next(batches, None))) is not None:
                run.show()
                rows += batch.num_rows
                yield batch
            run.finish()
            self.summary = run.result
            # The exit code is not always known: another part of this process may have waited for all its children.
            if self.summary.get("rows") != rows:
                raise error_of(74, f"the stream of results is cut: {rows} rows of {self.summary.get('rows', 'more')}")
        finally:
            # Also when the consumer stops early.
            run.kill()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as an Arrow stream, which any library with Arrow takes."""
        return self.reader().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pyarrow.Table:
        """All rows as a pyarrow Table."""
        return self.reader().read_all()

    def to_pandas(self) -> pandas.DataFrame:
        """All rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """All rows as a polars DataFrame."""
        frame: polars.DataFrame = optional("polars").DataFrame(self.to_arrow())
        return frame

    def to_anndata(self) -> anndata.AnnData:
        """All rows as an AnnData object, laid out like an `.h5ad` that `predict` writes."""
        if self.path is not None and self.path.suffix == ".h5ad":
            data: anndata.AnnData = optional("anndata").read_h5ad(self.path)
            return data
        from ._anndata import anndata_of

        return anndata_of(self.to_arrow())

    def close(self) -> None:
        """Ends the program of a stream that is not needed to its end."""
        run, self._run = self._run, None
        if run is not None:
            run.kill()

    def __repr__(self) -> str:
        if self.path is not None:
            return f"predictions in {self.path}: {self.summary.get('rows', '?')} rows"
        return "predictions: a stream, not read yet" if self._run is not None else "predictions: read, or not computed"


def started(run: Run) -> Prediction:
    """A prediction of a running program, once its first bytes are there: what is wrong with a request is raised before."""
    try:
        first = run.output.peek(1)  # type: ignore[attr-defined]
        if not first:
            run.finish()
            raise error_of(70, "the program ended without a stream of results")
    except BaseException:
        run.kill()
        raise
    return Prediction(run)


def _received(run: Run, read: Callable[[], Any]) -> Any:
    """The standard output of a program. If it is cut, the program's own error says why."""
    try:
        return read()
    except (OSError, ValueError) as broken:
        run.output.close()
        run.finish()
        raise error_of(74, f"the stream of results is damaged: {broken}") from broken


def _files(path: Path) -> pyarrow.RecordBatchReader:
    if path.suffix != ".h5ad":
        dataset = optional("pyarrow.dataset")
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        return dataset.dataset([str(file) for file in files], format="parquet", partitioning=_partitions(path, files)).scanner().to_reader()
    raise error_of(2, f"{path} is an AnnData file", "read it with `to_anndata()`, or write Parquet files")


def _partitions(path: Path, files: list[Path]) -> Any:
    """How the names of folders are read. All their values are texts, as in a file."""
    dataset, pyarrow = optional("pyarrow.dataset"), optional("pyarrow")
    folders = files[0].relative_to(path).parent.parts if files else ()
    names = [folder.partition("=")[0] for folder in folders if "=" in folder]
    if not names:
        return None
    schema = pyarrow.schema([(name, pyarrow.string()) for name in names])
    return dataset.partitioning(schema, flavor="hive")


def genes_of(schema: pyarrow.Schema) -> list[str]:
    """The names of the genes of lists of values, from a schema's metadata."""
    genes: list[str] = json.loads((schema.metadata or {}).get(b"genes", b"[]"))
    return genes
