"""Verbs run their requests, and make objects of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _atlas
from ._arguments import Request, missing_argument, path_of
from ._errors import error_of
from ._evaluation import Evaluation
from ._inputs import as_files
from ._prediction import Prediction, started
from ._report import Report
from ._table import Table


if TYPE_CHECKING:
    from pathlib import Path

    from ._atlas import Atlas
    from ._model import Model
    from .scale import Job

STREAM = "-"
"""The name of the program's standard input and output."""


def report(request: Request) -> Report:
    """Runs a command that reports what it did, or what it found."""
    with request:
        return Report(request.run(), request.path("out"))


def table(request: Request) -> Table:
    """Runs a command that lists things."""
    with request:
        ((_, rows),) = request.run().items()
    return Table.of_rows(rows)


def evaluation(request: Request) -> Evaluation:
    """Runs a command that scores predictions."""
    with request:
        return Evaluation(request.run(), request.path("out") or request.path("commit"))


def judgement(request: Request) -> Evaluation:
    """Scores predictions of any model, in files or in memory."""
    predictions = request.given["predictions"]
    if not predictions:
        raise missing_argument("judge", "predictions")
    with request, as_files(predictions, None) as files:
        request.given["predictions"] = files
        return Evaluation(request.run(), request.path("out"))


def atlas(request: Request) -> Atlas:
    """Converts files, AnnData objects or tables to an atlas, and opens it."""
    inputs = request.given["inputs"]
    if not inputs:
        raise missing_argument("ingest", "inputs")
    out = path_of(request.given["out"])
    with request, as_files(inputs, out, bool(request.given.get("in_place"))) as files:
        request.given["inputs"] = files
        request.run()
    return _atlas.open(out)


def model(request: Request) -> Model:
    """Trains a model. One whose training was stopped is continued, unless `resume` or `force` says otherwise."""
    from ._model import Model

    out = path_of(request.given["out"])
    if "resume" not in request.given and not request.given.get("force") and _unfinished(out):
        request.given["resume"] = True
    with request:
        return Model(out, request.run())


def _unfinished(out: Path) -> bool:
    """Whether there is a training to continue; `model.json` is written when a model is complete."""
    return (out / "checkpoint").is_dir() and not (out / "model.json").exists()


def sharded_prediction(request: Request) -> Prediction | Job[Prediction]:
    """Predicts here, or prepares a prediction in shards."""
    if request.given.get("atlas") == STREAM:
        raise error_of(2, "`-` is not an atlas", "perturbine.Predictor predicts the cells of tables")
    shards = request.given.pop("shards", None)
    if shards is None:
        return prediction(request)
    from .scale import Job

    return Job(request, shards, lambda out, summary: Prediction(None, out, dict(summary)))


def sharded_evaluation(request: Request) -> Evaluation | Job[Evaluation]:
    """Cross-validates here, or prepares it in shards."""
    shards = request.given.pop("shards", None)
    if shards is None:
        return evaluation(request)
    from .scale import Job

    return Job(request, shards, lambda out, summary: Evaluation(summary, out))


def prediction(request: Request) -> Prediction:
    """Predicts into files, or as a stream where there is no `out`."""
    if request.given.get("out") == STREAM:
        del request.given["out"]
    written = request.path("shard_out") or request.path("out") or request.path("commit")
    with request:
        if written is not None or request.given.get("dry_run") or request.given.get("plan_only"):
            return Prediction(None, written, request.run())
        request.given["out"] = STREAM
        return started(request.start())
