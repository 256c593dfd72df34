"""Predictions of tables that other programs hand over: the rows of `predict`, however cells are divided among tables."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import perturbine as pb
import pytest
from conftest import ordered
from test_errors import stand_in

pyarrow = pytest.importorskip("pyarrow", reason="without pyarrow, tables are not predicted")


@pytest.fixture(scope="module")
def names(screen: SimpleNamespace) -> list[dict[str, str]]:
    """The conditions that are predicted, a held-out pair among them."""
    conditions = pb.inspect(screen.atlas).json["conditions"]
    return [{"condition": one["name"]} for one in conditions if not one["control"]]


@pytest.mark.parametrize("output", ["cells", "latent"])
def test_tables_of_any_size_have_the_rows_of_predict(screen: SimpleNamespace, cells: Any, names: list, output: Any) -> None:
    whole = ordered(pb.predict(screen.model, screen.atlas, to=names, output=output).to_arrow())
    predictor = pb.Predictor(screen.model, to=names, output=output)
    for size in (600, 150, 61):
        parts = [predictor(cells.slice(at, size)) for at in range(0, 600, size)]
        assert {part.schema.metadata[b"model"] for part in parts} == {screen.model.card["weights"].encode()}
        assert ordered(pyarrow.concat_tables(parts)).equals(whole), size
    controls = cells.filter(pyarrow.compute.equal(cells["condition"], "ctrl"))
    few = [predictor(controls.slice(at, 1)) for at in range(3)]
    chosen = pyarrow.compute.is_in(whole["cell"], controls["cell"].slice(0, 3).combine_chunks())
    assert ordered(pyarrow.concat_tables(few)).equals(whole.filter(chosen).combine_chunks())
    predictor.close()


def test_a_predictor_is_pickled_as_its_arguments(screen: SimpleNamespace, cells: Any, names: list, tmp_path: Path) -> None:
    predictor = pb.Predictor(os.path.relpath(screen.model.path), to=names[0])
    rows = predictor(cells)
    again = pickle.loads(pickle.dumps(predictor))
    assert again(cells).equals(rows) and again._server() is predictor._server()
    # In another process, and in another folder.
    (tmp_path / "predictor").write_bytes(pickle.dumps(predictor))
    with pyarrow.OSFile(str(tmp_path / "cells"), "wb") as file, pyarrow.ipc.new_file(file, cells.schema) as writer:
        writer.write_table(cells)
    code = """
import pickle, pyarrow
predictor = pickle.load(open("predictor", "rb"))
print(predictor(pyarrow.ipc.open_file("cells").read_all())["expression"].combine_chunks().flatten().to_numpy().tobytes().hex())
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert bytes.fromhex(ran.stdout) == rows["expression"].combine_chunks().flatten().to_numpy().tobytes()
    predictor.close()


def test_layouts_have_the_same_rows(screen: SimpleNamespace, cells: Any, names: list) -> None:
    predictor = pb.Predictor(screen.model, to=names[:2])
    rows = predictor(cells)
    genes = screen.model.card["genes"]
    values = cells["expression"].combine_chunks().flatten().to_numpy().reshape(600, len(genes))
    without = cells.drop_columns(["expression"])
    wide = without
    for at, gene in enumerate(genes):
        wide = wide.append_column(gene, pyarrow.array(values[:, at].astype(np.int64)))
    reverse = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values[:, ::-1].ravel().astype(np.float64)), len(genes))
    named = without.append_column("expression", reverse.cast(pyarrow.large_list(pyarrow.float64())))
    named = named.replace_schema_metadata({"genes": json.dumps(genes[::-1])})
    # As ray keeps lists of one length.
    tensors = without.append_column("expression", pyarrow.FixedShapeTensorArray.from_numpy_ndarray(values))
    for table in (wide, named, tensors, cells.drop_columns(["dose"])):
        assert predictor(table).equals(rows)
    # Cells that are not labelled are all predicted, and predicted cells, made counts, can be predicted again.
    controls = cells.filter(pyarrow.compute.equal(cells["condition"], "ctrl"))
    assert predictor(controls.drop_columns(["condition"])).equals(predictor(controls))
    whole = pyarrow.array(np.rint(rows["expression"].combine_chunks().flatten().to_numpy()))
    counts = rows.drop_columns(["condition", "expression"]).append_column(
        "expression", pyarrow.FixedSizeListArray.from_arrays(whole, len(genes))
    )
    assert pb.Predictor(screen.model, to=names[0], output="latent")(counts).num_rows == rows.num_rows
    lacking = pb.Predictor(screen.model, to=names[:2], missing_genes="zero")(wide.drop_columns([genes[0]]))
    assert lacking.num_rows == rows.num_rows and not lacking.equals(rows)


def test_tables_without_controls_have_no_rows(screen: SimpleNamespace, cells: Any, names: list) -> None:
    predictor = pb.Predictor(screen.model)
    trained = predictor(cells)
    assert {one["condition"] for one in names} - set(trained["condition"].unique().to_pylist()) == set(held_out(screen))
    perturbed = cells.filter(pyarrow.compute.not_equal(cells["condition"], "ctrl"))
    for table in (perturbed, cells.slice(0, 0)):
        rows = predictor(table)
        assert rows.num_rows == 0 and rows.schema == trained.schema


def held_out(screen: SimpleNamespace) -> list[str]:
    """The conditions that the model's split holds out."""
    predicted = pb.predict(screen.model, screen.atlas, to="ood").to_arrow()
    return predicted["condition"].unique().to_pylist()


def test_errors_are_the_programs_and_the_next_table_is_predicted(screen: SimpleNamespace, cells: Any, names: list) -> None:
    predictor = pb.Predictor(screen.model, to=names[0])
    rows = predictor(cells)
    short = cells.set_column(
        cells.schema.get_field_index("expression"), "expression", pyarrow.array([[1.0] * 7] * 600, pyarrow.list_(pyarrow.float32()))
    )
    halves = cells.set_column(
        cells.schema.get_field_index("expression"), "expression", pyarrow.array([[0.5] * 80] * 600, pyarrow.list_(pyarrow.float32()))
    )
    unknown = cells.set_column(cells.schema.get_field_index("cell_type"), "cell_type", pyarrow.array(["type_9"] * 600))
    for table, message in (
        (short, "cell `cell_00000000`: `expression` has 7 values, but the model has 80 genes"),
        (halves, "gene `G00001`: 0.5 is not a count"),
        (unknown, "type_9"),
        (cells.drop_columns(["cell_type"]), "unknown column `cell_type`"),
        (cells.drop_columns(["cell"]), "no column that names its cells"),
        (cells.drop_columns(["expression"]), "neither a column of lists called `expression`"),
    ):
        with pytest.raises(pb.DataError, match=message):
            predictor(table)
    assert predictor(cells).equals(rows)
    with pytest.raises(pb.DataError, match="unknown perturbation `missing`"):
        pb.Predictor(screen.model, to={"condition": "missing"})(cells)
    with pytest.raises(pb.UsageError, match="--to observed depends on more than one table"):
        pb.Predictor(screen.model, to="observed")(cells)
    with pytest.raises(pb.UsageError, match="this is a dict"):
        predictor({"cell": np.array(["a"])})  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="elsewhere.model"):
        pb.Predictor("elsewhere.model")(cells)


def test_a_program_that_is_killed_is_an_error_and_the_next_call_starts_another(
    screen: SimpleNamespace, cells: Any, names: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perturbine._program import program

    predictor = pb.Predictor(screen.model, to=names[:3])
    rows = predictor(cells)
    predictor.close()
    # The first one dies while it answers, between two batches: what has come reads as a whole stream.
    code = f"""
import signal, subprocess
if not os.path.exists(__file__ + ".mark"):
    open(__file__ + ".mark", "w").close()
    child = subprocess.Popen([{program()!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
    import pyarrow
    source = pyarrow.ipc.open_stream(child.stdout)
    with os.fdopen(1, "wb") as out:
        writer = pyarrow.ipc.new_stream(out, source.schema)
        writer.write_batch(source.read_next_batch())
        out.flush()
        child.kill()
        os.kill(os.getpid(), signal.SIGKILL)
os.execv({program()!r}, [{program()!r}, *sys.argv[1:]])
"""
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, code))
    with pytest.raises(pb.Error, match="SIGKILL|is cut") as raised:
        predictor(cells)
    assert raised.value.code in (74, 128 + signal.SIGKILL)
    assert predictor(cells).equals(rows)
    # One that died in between is not noticed at all.
    run = predictor._server()._run
    assert run is not None
    os.kill(run._process.pid, signal.SIGKILL)
    run._watcher.join()
    assert predictor(cells).equals(rows)
    predictor.close()
