"""Rows of the program as AnnData objects, laid out like the `.h5ad` files that it writes."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ._errors import error_of
from ._optional import optional
from ._prediction import genes_of
from ._version import __version__

if TYPE_CHECKING:
    import anndata
    import pandas
    import pyarrow

MATRIX = ("expression", "mean")
"""Columns that become X, where there are any."""

LATENTS = {"basal": "X_cpa", "corrected": "X_cpa_corrected", "after": "X_cpa_after", "embedding": "X_cpa"}
"""Columns that become a matrix of `obsm`, and its name."""

NAMES = ("cell", "condition", "perturbation", "value")
"""Columns that name the rows: the first of them that there is."""


def anndata_of(table: pyarrow.Table) -> anndata.AnnData:
    """An AnnData object of a table with one row for each cell, condition or perturbation."""
    pandas, module = optional("pandas"), optional("anndata")
    genes = genes_of(table.schema)
    lists = {name: _matrix(table.column(name)) for name in table.column_names if _is_matrix(table, name)}
    if not lists:
        raise error_of(2, "a row for each gene is not a row of an AnnData object", "predict with `layout=\"wide\"`")
    once = _named_once(table)
    obs = pandas.DataFrame(
        {name: _labels(table, name) for name in table.column_names if name not in lists and name != once}
    )
    obs = _with_numeric_doses(obs, _origin(table).get("control"))
    obs.index = table.column(once).to_pylist() if once else _index(table)
    layers = {name: matrix for name, matrix in lists.items() if name not in LATENTS}
    matrix = next((layers.pop(name) for name in MATRIX if name in layers), None)
    latents = {LATENTS[name]: latent for name, latent in lists.items() if name in LATENTS}
    if matrix is None:
        first = next(iter(latents.values()))
        matrix, genes = first, [f"latent_{number}" for number in range(first.shape[1])]
    data: anndata.AnnData = module.AnnData(
        X=matrix,
        obs=obs,
        var=pandas.DataFrame(index=pandas.Index(genes)),
        layers=layers,
        obsm=latents,
        uns={"perturbine": {**_origin(table), "version": __version__}},
    )
    return data


def _is_matrix(table: pyarrow.Table, name: str) -> bool:
    types = optional("pyarrow").types
    return bool(types.is_fixed_size_list(table.schema.field(name).type))


def _matrix(column: pyarrow.ChunkedArray) -> Any:
    """The fixed-size lists of a column as one matrix, copied once."""
    numpy = optional("numpy")
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1) for chunk in column.chunks]
    width = column.type.list_size
    return numpy.concatenate(parts) if parts else numpy.empty((0, width), dtype="float32")


def _labels(table: pyarrow.Table, name: str) -> Any:
    values = table.column(name).to_pandas()
    is_text = optional("pyarrow").types.is_string(table.schema.field(name).type)
    return values.astype("category") if is_text else values


def _with_numeric_doses(obs: pandas.DataFrame, control: str | None) -> pandas.DataFrame:
    """Doses as numbers: in the place of their text where no condition combines perturbations, else behind it as `dose_1`, `dose_2`, ..."""
    if control is None or "dose" not in obs:
        return obs
    numbers = [
        [0.0] if condition == control else [float(dose) for dose in re.findall(r"\d+(?:\.\d+)?", text)]
        for condition, text in zip(obs["condition"], obs["dose"])
    ]
    columns = list(zip_longest(*numbers, fillvalue=float("nan")))
    if len(columns) <= 1:
        return obs.assign(dose=[dose for column in columns for dose in column])
    place = obs.columns.get_loc("dose")
    for number, column in enumerate(columns, 1):
        if f"dose_{number}" not in obs:
            place += 1
            obs.insert(place, f"dose_{number}", column)
    return obs


def _named_once(table: pyarrow.Table) -> str | None:
    """The column whose values name the rows: cells in their own condition, of which each has one row."""
    return "cell" if "cell" in table.column_names and "source_condition" not in table.column_names else None


def _index(table: pyarrow.Table) -> list[str]:
    """The names of rows whose labels repeat: the label and the row's number."""
    name = next((name for name in NAMES if name in table.column_names), None)
    if name is None:
        return [str(row) for row in range(table.num_rows)]
    return [f"{label}-{row}" for row, label in enumerate(table.column(name).to_pylist())]


def _origin(table: pyarrow.Table) -> dict[str, str]:
    """Where the rows come from: the texts of the schema's metadata."""
    metadata = table.schema.metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items() if key not in (b"genes", b"ARROW:schema")}
