"""The verbs: one for each command. Written by scripts/python_verbs.py."""

from ._crossval import crossval
from ._embed import embed
from ._evaluate import evaluate
from ._explain_predict import explain_predict
from ._explain_train import explain_train
from ._ingest import ingest
from ._inspect import inspect
from ._judge import judge
from ._predict import predict
from ._presets import presets
from ._report import report
from ._response import response
from ._settings import settings
from ._setup import setup
from ._simulate import simulate
from ._split import split
from ._train import train
from ._verify import verify

__all__ = [
    "crossval",
    "embed",
    "evaluate",
    "explain_predict",
    "explain_train",
    "ingest",
    "inspect",
    "judge",
    "predict",
    "presets",
    "report",
    "response",
    "settings",
    "setup",
    "simulate",
    "split",
    "train",
    "verify",
]
