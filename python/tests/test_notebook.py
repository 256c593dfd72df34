"""The example notebook runs from its first cell to its last, on a simulated screen."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "kang.ipynb"


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="without nbclient, the notebook is not tested")
    pytest.importorskip("ipykernel", reason="without ipykernel, the notebook is not tested")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "results of a run do not belong to the repository"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pages = [output["data"].get("text/html", "") for output in outputs if "data" in output]
    assert any("pearson_delta" in page for page in pages), "the evaluation is a page"
    assert any("epoch" in output["text"] for output in outputs if output.get("name") == "stderr"), "progress is shown"
    assert (tmp_path / "kang.html").exists()
