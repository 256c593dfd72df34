"""How a call's arguments become those of a command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import perturbine as pb
import pytest
from perturbine._arguments import Request, text_of, texts_of


class Opened:
    """Stands for an atlas."""

    path = Path("a.atlas")


@pytest.mark.parametrize(
    ("given", "kinds", "words"),
    [
        ({"batch_size": 64}, {}, ["--batch-size=64"]),
        ({"from_": {"condition": "ctrl", "cell_type": "B"}}, {}, ["--from=condition=ctrl,cell_type=B"]),
        ({"raw": True, "force": False, "layer": None}, {}, ["--raw"]),
        ({"sorted": False}, {"texts": "sorted"}, ["--sorted=false"]),
        ({"control": ["ctrl", "DMSO"]}, {}, ["--control=ctrl", "--control=DMSO"]),
        ({"covariates": ["cell_type", "a,b"]}, {"joined": "covariates"}, ['--covariates=cell_type,"a,b"']),
        ({"covariates": []}, {"joined": "covariates"}, ["--covariates="]),
        ({"covariates": "a,b"}, {"joined": "covariates"}, ["--covariates=a,b"]),
        ({"doses": [0, 0.5, 1]}, {"joined": "doses"}, ["--doses=0,0.5,1"]),
        ({"doses": [[0, 1], [0, 2]]}, {"joined": "doses"}, ["--doses=0,1", "--doses=0,2"]),
        (
            {"set": {"train.lr": 5e-4, "model.variational": True, "train.match_keys": ["donor"]}},
            {"pairs": "set"},
            ["--set=train.lr=0.0005", "--set=model.variational=true", '--set=train.match_keys=["donor"]'],
        ),
        ({"to": [{"condition": "A"}, "ood"]}, {}, ["--to=condition=A", "--to=ood"]),
        ({"verbose": 2, "progress": True}, {}, ["-v", "-v"]),
        ({"inputs": ("-x", Opened())}, {"positional": "inputs"}, ["--", "-x", "a.atlas"]),
    ],
)
def test_arguments_are_flags(given: dict, kinds: dict, words: list[str]) -> None:
    assert Request("train", given, **kinds).command_line() == ["train", *words]


def test_a_list_of_genes_is_a_file_while_the_command_runs() -> None:
    with Request("train", {"genes": np.array(["G1", "G2"])}, listed="genes") as request:
        file = Path(request.command_line()[1].removeprefix("--genes="))
        assert file.read_text() == "G1\nG2\n"
    assert not file.exists()
    assert Request("train", {"genes": 2000}, listed="genes").command_line() == ["train", "--genes=2000"]


def test_names_with_separators_are_quoted_as_the_program_reads_them() -> None:
    selector = {"cell_type": "T, naive", "a=b": "x", "note": 'say "hi"', "quoted": '"q'}
    assert texts_of(selector) == ['cell_type="T, naive","a=b"=x,note=say "hi",quoted="""q"']


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.int64(3), "3"), (np.float64(0.25), "0.25"), (1e-7, "1e-07"), (Path("a"), "a"), (True, "true")],
)
def test_values_are_written_as_on_a_command_line(value: object, text: str) -> None:
    assert text_of(value) == text


def test_a_value_without_a_text_is_refused() -> None:
    with pytest.raises(pb.UsageError, match="is not a text, number, path"):
        text_of(object())


def test_wrong_and_missing_arguments_are_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTURBINE_PROGRAM", "/nowhere")
    with pytest.raises(ValueError, match="`train` has no argument `spilt`; the nearest: split"):
        pb.train("a.atlas", "a.model", spilt="b")  # type: ignore[call-arg]
    with pytest.raises(pb.Error, match="`train` needs the argument `out`"):
        pb.train("a.atlas")  # type: ignore[call-arg]
    with pytest.raises(pb.Error, match="`ingest` needs the argument `out`"):
        pb.ingest("a.h5ad")  # type: ignore[call-arg]
    with pytest.raises(pb.Error, match="`ingest` needs the argument `inputs`"):
        pb.ingest(out="a.atlas")
