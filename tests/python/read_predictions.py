"""Reads predictions as their users do, and checks that all readers see the same numbers.

Arguments: the folder that holds the predictions, and a JSON file of what is in them: for each set its rows, each a list of
labels and a list of numbers.
"""

import json
import sys
from pathlib import Path

import anndata
import duckdb
import numpy as np
import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet

home = Path(sys.argv[1])
truth = json.loads(Path(sys.argv[2]).read_text())


def checked(reader: str, name: str, labels: list, values: list, wanted: dict) -> None:
    found = sorted(zip((tuple(str(label) for label in row) for row in labels), (tuple(map(float, row)) for row in values)))
    expected = sorted((tuple(row["labels"]), tuple(np.asarray(row["values"], dtype=np.float32).astype(float))) for row in wanted["rows"])
    assert len(found) == len(expected), f"{reader} finds {len(found)} rows in {name}, not {len(expected)}"
    for one, other in zip(found, expected):
        assert one[0] == other[0], f"{reader} reads {one[0]} in {name}, not {other[0]}"
        assert one[1] == other[1], f"{reader} reads other numbers of {one[0]} in {name}"
    print(f"{reader} reads {len(found)} rows of {name}")


for name, wanted in truth.items():
    keys, column = wanted["keys"], wanted["column"]
    path = home / name
    if name.endswith(".h5ad"):
        data = anndata.read_h5ad(path)
        assert data.obs_names.is_unique and list(data.var_names) == wanted["genes"]
        assert data.uns["perturbine"]["scale"] == "counts" and data.uns["perturbine"]["model"]
        matrix = data.X if column in ("mean", "expression") else data.layers[column]
        checked("anndata", name, data.obs[keys].astype(str).values.tolist(), np.asarray(matrix).tolist(), wanted)
        backed = anndata.read_h5ad(path, backed="r")
        assert backed.X[:3].tolist() == data.X[:3].tolist()
        continue
    parted = wanted["parted"]
    pattern = str(path / "**" / "*.parquet")

    table = pyarrow.dataset.dataset(path, partitioning="hive" if parted else None).to_table()
    arrow = table.to_pydict()
    checked("pyarrow", name, list(zip(*(arrow[key] for key in keys))), arrow[column], wanted)
    assert json.loads(table.schema.metadata[b"genes"]) == wanted["genes"], "the schema names the genes"

    columns = ", ".join(f'"{key}"' for key in [*keys, column])
    types = "hive_types_autocast=false, " if parted else ""
    rows = duckdb.sql(f"select {columns} from read_parquet('{pattern}', {types}hive_partitioning={str(parted).lower()})").fetchall()
    checked("DuckDB", name, [row[:-1] for row in rows], [row[-1] for row in rows], wanted)
    one = next(path.rglob("*.parquet"))
    told = duckdb.sql(f"select value from parquet_kv_metadata('{one}') where key = 'genes'").fetchall()
    assert json.loads(bytes(told[0][0])) == wanted["genes"], "DuckDB finds the genes as well"

    frame = polars.read_parquet(pattern, hive_partitioning=parted)
    checked("Polars", name, frame.select(keys).rows(), frame[column].to_list(), wanted)

    frame = pandas.read_parquet(path)
    checked("pandas", name, frame[keys].values.tolist(), frame[column].tolist(), wanted)
