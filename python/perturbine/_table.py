"""A small table of a result, for notebooks and for other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._optional import optional

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

SHOWN = 60
"""Rows that are shown."""

LONGEST = 60
"""Characters of a value that are shown."""


class Table:
    """Rows with named columns. `to_pandas`, `to_polars` and `to_arrow` hand it over; `columns` has the values themselves."""

    def __init__(self, columns: Mapping[str, list[Any]]) -> None:
        self.columns = dict(columns)

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Table:
        """A table of these rows; a value that a row lacks is None."""
        rows = list(rows)
        names = dict.fromkeys(name for row in rows for name in row)
        return cls({name: [row.get(name) for row in rows] for name in names})

    def __len__(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, each as a dict."""
        return (dict(zip(self.columns, row)) for row in zip(*self.columns.values()))

    def __getitem__(self, name: str) -> list[Any]:
        """The values of a column."""
        return self.columns[name]

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame."""
        frame: pandas.DataFrame = optional("pandas").DataFrame(self.columns)
        return frame

    def to_polars(self) -> polars.DataFrame:
        """The table as a polars DataFrame."""
        frame: polars.DataFrame = optional("polars").DataFrame(self.columns)
        return frame

    def to_arrow(self) -> pyarrow.Table:
        """The table as a pyarrow Table."""
        return optional("pyarrow").table(self.columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table as an Arrow stream, which any library with Arrow takes."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        lines = [list(self.columns), *([shown(value) for value in row.values()] for row in self._shown())]
        widths = [max(map(len, column)) for column in zip(*lines)]
        text = "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)
        return text + self._more("\n{}")

    def _repr_html_(self) -> str:
        # Imported here, since few programs need it and it takes milliseconds.
        from html import escape

        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        rows = (
            "<tr>" + "".join(f"<td>{escape(shown(value))}</td>" for value in row.values()) + "</tr>"
            for row in self._shown()
        )
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{self._more('<p>{}</p>')}"
        )

    def _shown(self) -> Iterator[dict[str, Any]]:
        return (row for row, _ in zip(self, range(SHOWN)))

    def _more(self, form: str) -> str:
        return form.format(f"{len(self) - SHOWN} more rows") if len(self) > SHOWN else ""


def shown(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return "–"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
