"""Perturbine in Python: perturbation atlases, a loader of batches, and the verbs of the command line.

    import perturbine as pb
    atlas = pb.ingest("kang.h5ad", out="kang.atlas")
    pb.split(atlas, name="b", hold_out={"cell_type": "B", "condition": "stim"})
    model = pb.train(atlas, "kang.model", split="b", progress=True)
    adata = model.predict(atlas, to="ood").to_anndata()

A verb is a command of the program `perturbine`, its arguments are the command's flags, and it runs in a process of its own.
"""

from . import scale
from ._atlas import Atlas, open
from ._errors import (
    BugError,
    DataError,
    Error,
    MissingInputError,
    NoSpaceError,
    OutputError,
    Stopped,
    UsageError,
)
from ._evaluation import Evaluation
from ._model import Model
from ._prediction import Prediction
from ._predictor import Predictor
from ._report import Report
from ._table import Table
from ._verbs import (
    crossval,
    embed,
    evaluate,
    explain_predict,
    explain_train,
    ingest,
    inspect,
    judge,
    predict,
    presets,
    report,
    response,
    settings,
    setup,
    simulate,
    split,
    train,
    verify,
)
from ._version import __version__

__all__ = [
    "Atlas",
    "BugError",
    "DataError",
    "Error",
    "Evaluation",
    "MissingInputError",
    "Model",
    "NoSpaceError",
    "OutputError",
    "Prediction",
    "Predictor",
    "Report",
    "Stopped",
    "Table",
    "UsageError",
    "__version__",
    "crossval",
    "embed",
    "evaluate",
    "explain_predict",
    "explain_train",
    "ingest",
    "inspect",
    "judge",
    "open",
    "predict",
    "presets",
    "report",
    "response",
    "scale",
    "settings",
    "setup",
    "simulate",
    "split",
    "train",
    "verify",
]
