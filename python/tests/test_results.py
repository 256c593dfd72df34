"""Predictions as streams and files, and scores as tables."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import perturbine as pb
import pyarrow as pa
import pytest
from test_errors import stand_in

CUT = """
import signal
import pyarrow as pa
schema = pa.schema([("x", pa.int64())])
out = sys.stdout.buffer
writer = pa.ipc.new_stream(out, schema)
for start in (0, 10):
    writer.write_batch(pa.record_batch({"x": range(start, start + 10)}, schema))
out.flush()
"""
END = "writer.close(); print('{\"rows\":20}', file=sys.stderr)"


def test_a_stream_is_what_files_hold(screen: SimpleNamespace, tmp_path: Path) -> None:
    stream = screen.model.predict(screen.atlas, to="ood")
    streamed = stream.to_arrow()
    assert stream.summary["rows"] == streamed.num_rows and stream.summary["skipped"] == []
    written = screen.model.predict(screen.atlas, to="ood", out=tmp_path / "p.parquet")
    assert written.path == tmp_path / "p.parquet" and written.summary["rows"] == streamed.num_rows > 0
    assert streamed.equals(written.to_arrow()) and streamed.equals(written.to_arrow())
    folder = screen.model.predict(screen.atlas, to="ood", out=tmp_path / "p")
    assert streamed.equals(folder.to_arrow())
    parted = screen.model.predict(screen.atlas, to="ood", out=tmp_path / "q", partition_by=["condition", "dose"])
    rows = parted.to_arrow().select(streamed.column_names).to_pylist()
    assert sorted(rows, key=str) == sorted(streamed.to_pylist(), key=str)


def test_a_stream_is_read_once(screen: SimpleNamespace) -> None:
    prediction = screen.model.predict(screen.atlas, to="ood")
    assert prediction.to_arrow().num_rows
    with pytest.raises(pb.Error, match="a stream that was read before") as raised:
        prediction.to_pandas()
    assert "to_arrow" in raised.value.hint


def test_pandas_polars_and_any_reader_of_arrow_take_it(screen: SimpleNamespace) -> None:
    def predict() -> pb.Prediction:
        return screen.model.predict(screen.atlas, to="ood", layout="long", genes=["G00001", "G00002"])

    expected = predict().to_arrow()
    assert set(expected["gene"].to_pylist()) == {"G00001", "G00002"}
    assert pa.table(predict()).equals(expected)
    assert pa.RecordBatchReader.from_stream(predict()).read_all().equals(expected)
    polars = pytest.importorskip("polars")
    assert polars.DataFrame(predict()).height == predict().to_polars().height == expected.num_rows
    assert predict().to_pandas()["mean"].tolist() == expected["mean"].to_pylist()


@pytest.mark.parametrize("output", ["means", "cells"])
def test_anndata_is_laid_out_as_the_program_writes_it(screen: SimpleNamespace, tmp_path: Path, output: str) -> None:
    def predict(**how: object) -> anndata.AnnData:
        predicted = screen.model.predict(screen.atlas, to="ood", output=output, cells_per_condition=5, **how)
        return predicted.to_anndata()

    same(predict(), predict(out=tmp_path / "p.h5ad"))
    same(predict(), predict(out=tmp_path / "p.parquet"))


def test_latents_are_laid_out_as_the_program_writes_them(screen: SimpleNamespace, tmp_path: Path) -> None:
    same(
        screen.model.embed(screen.atlas).to_anndata(),
        screen.model.embed(screen.atlas, out=tmp_path / "e.h5ad").to_anndata(),
    )
    table = screen.model.embed(of="perturbations").to_anndata()
    assert table.obs["perturbation"].tolist()[0] == "ctrl" and table.obsm["X_cpa"].shape == (table.n_obs, 32)


def same(ours: anndata.AnnData, theirs: anndata.AnnData) -> None:
    assert ours.obs_names.tolist() == theirs.obs_names.tolist()
    assert ours.var_names.tolist() == theirs.var_names.tolist()
    assert list(ours.obs) == list(theirs.obs)
    for name in ours.obs:
        assert ours.obs[name].tolist() == pytest.approx(theirs.obs[name].tolist(), nan_ok=True) or (
            ours.obs[name].astype(str).tolist() == theirs.obs[name].astype(str).tolist()
        )
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert set(ours.layers) == set(theirs.layers) and set(ours.obsm) == set(theirs.obsm)
    for name in ours.layers:
        np.testing.assert_array_equal(ours.layers[name], theirs.layers[name])
    for name in ours.obsm:
        np.testing.assert_array_equal(ours.obsm[name], theirs.obsm[name])
    assert ours.uns["perturbine"]["model"] == theirs.uns["perturbine"]["model"]


def test_a_long_table_is_not_an_anndata_object(screen: SimpleNamespace) -> None:
    with pytest.raises(pb.Error, match="a row for each gene"):
        screen.model.predict(screen.atlas, to="ood", layout="long").to_anndata()


def test_a_stream_of_a_killed_program_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cut between two batches, where every reader of Arrow takes the stream for complete."""
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, CUT + "os.kill(os.getpid(), signal.SIGKILL)"))
    with pytest.raises(pb.Error, match="ended by SIGKILL before it was done"):
        pb.predict("m", "a").to_arrow()
    with pytest.raises(pa.ArrowInvalid, match="SIGKILL"):
        pa.table(pb.predict("m", "a"))
    polars = pytest.importorskip("polars")
    with pytest.raises(Exception, match="SIGKILL"):
        polars.DataFrame(pb.predict("m", "a"))


def test_a_stream_that_is_cut_within_a_batch_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cut = CUT + "out.write(b'\\xff\\xff\\xff\\xff\\x88\\x00\\x00\\x00half'); out.flush(); os.kill(os.getpid(), 9)"
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, cut))
    with pytest.raises(pb.Error, match="SIGKILL"):
        pb.predict("m", "a").to_arrow()


def test_a_stream_that_is_cut_within_its_schema_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "sys.stdout.buffer.write(b'\\xff\\xff\\xff\\xff\\x88'); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, code))
    with pytest.raises(pb.Error, match="SIGKILL"):
        pb.predict("m", "a").to_arrow()


def test_what_is_no_stream_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, "print('something else')"))
    with pytest.raises(pb.OutputError, match="the stream of results is damaged"):
        pb.predict("m", "a").to_arrow()


def test_a_callbacks_exception_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "print('a note', file=sys.stderr, flush=True)\n" + CUT + END
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, code))

    def refuse(event: dict) -> None:
        raise ValueError(event["message"])

    with pytest.raises(ValueError, match="a note"):
        pb.predict("m", "a", progress=refuse).to_arrow()


def test_a_stream_without_its_end_is_an_error_without_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where a process ignores its children, the system forgets how they ended."""
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, CUT + "os.kill(os.getpid(), 9)"))
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(pb.OutputError, match="is cut: 20 rows of more"):
            pb.predict("m", "a").to_arrow()
        with pytest.raises(pb.BugError, match="without its result"):
            pb.presets()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_error_after_the_first_rows_is_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = CUT + """print('{"error":{"message":"block 7 is damaged","hint":"verify it","code":65}}', file=sys.stderr); sys.exit(65)"""
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, code))
    with pytest.raises(pb.DataError, match="block 7 is damaged"):
        pb.predict("m", "a").to_arrow()


def test_a_stream_that_ends_well_is_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, CUT + END))
    assert pb.predict("m", "a").to_arrow()["x"].to_pylist() == list(range(20))


@pytest.mark.parametrize("end", ["close", "forget", "some"])
def test_a_stream_that_is_not_read_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, CUT + "signal.pause()"))
    prediction = pb.predict("m", "a")
    run = prediction._run
    assert run is not None
    process = run._process
    os.kill(process.pid, 0)
    del run
    if end == "close":
        prediction.close()
    if end == "some":
        reader = prediction.reader()
        assert reader.read_next_batch().num_rows == 10
        del reader
    del prediction
    assert process.returncode == -signal.SIGKILL


def test_a_plan_has_a_summary_and_no_rows(screen: SimpleNamespace) -> None:
    plan = screen.model.predict(screen.atlas, to="ood", dry_run=True)
    assert plan.summary["rows"] > 0
    with pytest.raises(pb.Error, match="were never computed"):
        plan.to_arrow()


def test_scores_are_tables(screen: SimpleNamespace, tmp_path: Path) -> None:
    evaluation = screen.model.evaluate(screen.atlas)
    assert evaluation.scores["prediction"][:2] == ["model", "control"]
    assert evaluation.scores["r2_mean"][0] == evaluation.json["mean"]["r2_mean"]
    conditions = evaluation.conditions
    assert len(conditions) == len(evaluation.json["conditions"]) > 0
    assert conditions["cell_type"] == [one["covariates"]["cell_type"] for one in evaluation.json["conditions"]]
    assert conditions.to_pandas().shape == (len(conditions), len(conditions.columns))
    assert pa.table(conditions).num_rows == len(conditions)
    page = evaluation._repr_html_()
    assert "pearson_delta" in page and "additive" in page and page.count("<table>") == 2
    assert evaluation.summary in repr(evaluation)
    screen.model.predict(screen.atlas, to="ood", out=tmp_path / "p.parquet")
    judged = pb.judge(tmp_path / "p.parquet", truth=screen.atlas)
    assert judged.scores["prediction"][0] == "p.parquet" and "p.parquet" in judged.conditions["prediction"]


def test_a_cross_validation_is_a_table_of_folds(screen: SimpleNamespace) -> None:
    folds = pb.crossval(screen.atlas, "combos:0.5", epochs=1)
    assert set(folds.conditions["fold"]) == {fold["name"] for fold in folds["folds"]}
    assert "folds" in folds.summary and folds.scores["prediction"][0] == "model"


def test_other_commands_report(screen: SimpleNamespace, tmp_path: Path) -> None:
    assert {"cpa", "residual"} <= set(pb.presets()["name"])
    assert pb.settings("train.lr")["name"] == ["train.lr"]
    assert pb.inspect(screen.atlas)["cells"] == 600
    assert pb.verify(screen.atlas, screen.model)["damaged"] == []
    assert screen.model.report(tmp_path / "r.html").path.stat().st_size > 1000
    assert "graph" in pb.explain_predict(screen.model, screen.atlas)
    assert screen.model.card["split"] == "pairs" and screen.model.history["epoch"] == [0, 1]
    curve = screen.model.response(screen.atlas, singles(screen)[0], doses=[0, 0.5, 1])
    assert set(curve.to_pandas()["dose"]) == {"0", "0.5", "1"}


def singles(screen: SimpleNamespace) -> list[str]:
    """The single perturbations of the screen."""
    conditions = pb.inspect(screen.atlas)["conditions"]
    return [one["name"] for one in conditions if len(one["perturbations"]) == 1]
