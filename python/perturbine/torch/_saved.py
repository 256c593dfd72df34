"""Models on disk: folders that `perturbine predict`, `evaluate` and `report` take."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _verbs
from .._errors import error_of
from .._optional import optional
from .._version import __version__

if TYPE_CHECKING:
    from .._atlas import Atlas
    from ._network import CPA

Network = TypeVar("Network")
Files = Mapping[str, "bytes | Path"]
"""The content of files of a model's folder, or where it is."""

BESIDE = ("config.toml", "split.parquet")
"""Files that a model takes over from the one that it was loaded from."""


def of_atlas(atlas: Atlas, split: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes | Path]]:
    """The card of a model that is to be trained on an atlas, and files for its folder; `given` are arguments of `perturbine.train`."""
    with tempfile.TemporaryDirectory() as folder:
        plan = _verbs.explain_train(atlas, Path(folder) / "model", split=split, device="cpu", **given)
    return plan["card"], {"config.toml": plan["config"].encode(), "split.parquet": atlas.path / "splits" / f"{split}.parquet"}


def read(folder: Path, make: Callable[[dict[str, Any]], Network]) -> tuple[Network, dict[str, Any], dict[str, bytes | Path]]:
    """A network made from a folder's card, its weights, and files that are beside them."""
    path = folder / "model.json"
    if not path.is_file():
        raise error_of(66, f"{folder} is not a complete model: it has no model.json", "name the folder that `train` wrote")
    card = json.loads(path.read_text(encoding="utf-8"))
    card.pop("checksum", None)
    weights = optional("safetensors.torch").load_file(folder / "model.safetensors")
    beside: dict[str, bytes | Path] = {name: folder / name for name in BESIDE if (folder / name).exists()}
    return make(card), {name.removeprefix("module."): value for name, value in weights.items()}, beside


def write(network: CPA, folder: Path, files: Files, history: Iterable[Mapping[str, float]]) -> None:
    """Writes a model, which appears when it is complete."""
    if folder.exists():
        raise error_of(2, f"{folder} exists already", "remove it first, or choose another name")
    xxhash, safetensors = optional("xxhash"), optional("safetensors.torch")
    history = list(history)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    try:
        for name, content in files.items():
            (staged / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        (staged / "genes.txt").write_text("".join(f"{gene}\n" for gene in network.genes), encoding="utf-8")
        (staged / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in history), encoding="utf-8")
        weights = {f"module.{name}": value.detach().cpu().float().contiguous() for name, value in network.state_dict().items()
                   if not name.endswith("num_batches_tracked")}
        safetensors.save_file(weights, staged / "model.safetensors")

        def checksum(name: str) -> str | None:
            path = staged / name
            return str(xxhash.xxh3_64_hexdigest(path.read_bytes())) if path.exists() else None

        card = {
            **network.card,
            "written_by": f"perturbine.torch {__version__}",
            "epochs": len(history),
            "best": None,
            "weights": checksum("model.safetensors"),
            "split_checksum": checksum("split.parquet"),
        }
        text = json.dumps(card, indent=2, ensure_ascii=False)
        # The last field is the checksum of the text without it.
        sealed = f'{text[:-2]},\n  "checksum": "{xxhash.xxh3_64_hexdigest(text.encode())}"\n}}'
        (staged / "model.json").write_text(sealed, encoding="utf-8")
        staged.chmod(0o777 & ~_mask())
        os.replace(staged, folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _mask() -> int:
    """The permissions that new files lack; temporary folders lack more."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
