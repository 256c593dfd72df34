"""Models as torch modules: predictions of trained ones, fresh ones for an atlas, and what can't be trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import perturbine as pb
import pytest
from perturbine._arguments import Request
from screens import counts, logarithms

torch = pytest.importorskip("torch", reason="without torch, models as torch modules are not tested")
pytest.importorskip("safetensors", reason="without safetensors, models of torch are not tested")
pytest.importorskip("xxhash", reason="without xxhash, models of torch are not tested")
from perturbine.torch import CPA, Cells, Learner, Schedule  # noqa: E402
from perturbine.torch._cells import Labels  # noqa: E402

TINY = {"model.n_latent": 8, "model.n_hidden_encoder": 16, "model.n_layers_encoder": 1, "model.n_hidden_decoder": 16,
        "model.n_layers_decoder": 1, "adversary.n_hidden_adv": 8, "adversary.n_layers_adv": 1}


@pytest.fixture(scope="module")
def doses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A screen of single perturbations at three doses, and pairs, in two types of cells."""
    folder = tmp_path_factory.mktemp("doses")
    pb.simulate(folder / "s.h5ad", cells=3000, genes=80, conditions=9, combos=5, cell_types=2, doses=3, density=0.4, batches=1)
    keys = {"covariates": "cell_type", "dose": "dose", "perturbation": "condition", "control": "ctrl"}
    Request("ingest", {"inputs": [folder / "s.h5ad"], "out": folder / "s.atlas", **keys}, positional="inputs").run()
    return folder


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("residual", {"model.offset": "additive"}),
        ("residual", {"model.offset": "additive", "model.recon_loss": "gauss"}),
        ("cpa", {"model.doser_type": "logsigm"}),
        ("cpa", {"model.doser_type": "mlp", "model.recon_loss": "zinb"}),
    ],
)
def test_modules_predict_what_predict_does(doses: Path, tmp_path: Path, preset: str, settings: dict[str, Any]) -> None:
    names = [str(name) for name in pb.open(doses / "s.atlas").conditions["condition"]]
    single = next(name for name in names if "+" not in name and name != "ctrl")
    held = [{"condition": next(name for name in names if "+" in name)}, {"condition": single, "dose": 1}]
    trained = pb.train(doses / "s.atlas", tmp_path / "m", hold_out=held, preset=preset, epochs=2, batch_size=64, set={**TINY, **settings})
    cells, model = anndata.read_h5ad(doses / "s.h5ad"), CPA.load(trained)
    x = torch.tensor(cells.X.astype(np.float32).toarray())[:, [list(cells.var_names).index(gene) for gene in model.genes]]
    rows = trained.predict(doses / "s.atlas", to="observed", out=tmp_path / "p.parquet").to_arrow().to_pylist()
    assert len(rows) > 20
    for row in rows:
        sources = np.flatnonzero((cells.obs.condition == "ctrl") & (cells.obs.cell_type == row["cell_type"]))
        condition = list(zip(row["condition"].split("+"), map(float, row["dose"].split("+"))))
        labels = model.perturbations([condition] * len(sources)), model.covariates([{"cell_type": row["cell_type"]}] * len(sources))
        with torch.no_grad():
            found = model(x[sources], *labels).mean(0).numpy()
        assert np.abs(found - row["mean"]).max() < 1e-5 * max(row["mean"])


def test_a_fresh_model_has_the_card_of_a_training(tmp_path: Path) -> None:
    """Apart from what is learned, it is the one that `train` writes."""
    atlas, arguments = counts().open(), {"preset": "cpa", "epochs": 1, "batch_size": 64, "genes": 30, "set": TINY}
    trained = pb.train(atlas, tmp_path / "trained", split="half", **arguments)
    network = CPA.for_atlas(atlas, "half", **arguments)
    learner = Learner(network)
    assert list(learner.epoch(network.loader(atlas)))
    mine = network.save(tmp_path / "mine", learner.history)
    learned = ("written_by", "weights", "best", "checksum")
    assert {name: value for name, value in mine.card.items() if name not in learned} == {
        name: value for name, value in trained.card.items() if name not in learned
    }
    for name in ("config.toml", "genes.txt", "split.parquet"):
        assert (mine.path / name).read_bytes() == (trained.path / name).read_bytes()
    theirs = CPA.load(trained).state_dict()
    assert {name: value.shape for name, value in CPA.load(mine).state_dict().items()} == {name: value.shape for name, value in theirs.items()}
    assert set(mine.history.to_arrow().column_names) <= set(trained.history.to_arrow().column_names)
    # It can be trained on, and saved with what it came with.
    again = CPA.load(mine)
    list(Learner(again).epoch(again.loader(atlas)))
    assert (again.save(tmp_path / "again").path / "split.parquet").exists()


def test_what_was_damaged_is_refused_by_perturbine(tmp_path: Path) -> None:
    network = CPA.for_atlas(counts().open(), "half", epochs=1, set=TINY)
    model = network.save(tmp_path / "m")
    card = (tmp_path / "m" / "model.json").read_text()
    (tmp_path / "m" / "model.json").write_text(card.replace('"ctrl"', '"ctrI"', 1))
    with pytest.raises(pb.DataError, match="model.json.*checksum"):
        model.predict(counts().atlas, out=tmp_path / "p.parquet")
    with pytest.raises(pb.MissingInputError, match="has no model.json"):
        CPA.load(tmp_path)


def test_continuous_values_are_trained_on(tmp_path: Path) -> None:
    atlas = logarithms().open()
    network = CPA.for_atlas(atlas, "half", epochs=3, batch_size=50, set={**TINY, "model.variational": "true", "adversary.adv_steps": 2})
    learner, loader = Learner(network), network.loader(atlas)
    for _ in range(3):
        list(learner.epoch(loader, batches=2))
    assert len(learner.history) == 3 and {"train.kl", "train.recon", "train.penalty"} <= set(learner.history[-1])
    assert learner.history[-1]["train.recon"] < learner.history[0]["train.recon"]
    model = network.save(tmp_path / "m", learner.history)
    assert model.predict(logarithms().atlas, to="observed", out=tmp_path / "p.parquet").to_arrow().num_rows


def test_several_batches_are_one_step_as_if_they_were_one() -> None:
    """Without batch norm and dropout, which know of batches, they are exactly that, however large each is."""
    plain = {"model.norm_encoder": "none", "model.norm_decoder": "none", "model.dropout_rate_decoder": 0, "adversary.norm_adv": "none",
             "adversary.dropout_rate_adv": 0, "model.doser_type": "logsigm"}
    network = CPA.for_atlas(counts().open(), "half", batch_size=90, set={**TINY, **plain}).double()
    labels, weights = Labels(network, network.loader(counts().open())), copy.deepcopy(network.state_dict())
    parts = [labels.cells(batch) for batch, _ in zip(network.loader(counts().open()), range(3))]
    parts[1] = Cells(parts[1].x[:40], parts[1].codes[:40], parts[1].doses[:40], {"donor": parts[1].covariates["donor"][:40]}, parts[1].combinations[:40])
    whole = Cells(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("x", "codes", "doses")),
        {"donor": torch.cat([part.covariates["donor"] for part in parts])},
        torch.cat([part.combinations for part in parts]),
    )
    learned, measured = [], []
    for batches in (parts, [whole]):
        network.load_state_dict(weights)
        learner = Learner(network)
        schedule = Schedule(True, True, True, 5.0, 1.0, 0.0, 1.0)
        measured.append([learner.step(batches, schedule) for _ in range(3)])
        learned.append(copy.deepcopy([*network.parameters(), *learner.adversaries.parameters()]))
    for one, other in zip(*measured):
        assert one.keys() == other.keys() and all(float(one[name]) == pytest.approx(float(other[name]), rel=1e-9) for name in one)
    for one, other in zip(*learned):
        assert float((one - other).detach().abs().max()) <= 1e-9 * float(one.detach().abs().max())


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("residual", {}, "model.offset = shrinkage can't be trained in torch"),
        ("cpa", {"train.average": "ema"}, "train.average = ema can't be trained in torch"),
        ("cpa", {"train.objective": "paired"}, "train.objective = paired can't be trained in torch"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(preset: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(pb.UsageError, match=message):
        Learner(CPA.for_atlas(counts().open(), "half", preset=preset, set={**TINY, **settings}))


def test_cells_of_other_labels_are_refused() -> None:
    atlas = counts().open()
    pb.split(atlas, name="without_c", hold_out={"condition": "C"}, force=True)
    network = CPA.for_atlas(atlas, "without_c", epochs=1, batch_size=100, set=TINY)
    with pytest.raises(pb.DataError, match=r"cell [0-9,]+ has a condition `C` that the model was not trained on"):
        list(Learner(network).epoch(network.loader(atlas, "half")))
    with pytest.raises(pb.UsageError, match="the loader has no column `donor` of text"):
        list(Learner(network).epoch(network.loader(atlas, columns=[])))
    with pytest.raises(pb.UsageError, match="the loader is that of rank 1 of 2, the process group's is 0 of 1"):
        list(Learner(network).epoch(network.loader(atlas, rank=1, world_size=2)))
    with pytest.raises(pb.DataError, match="an epoch has 11 batches for each process, and a step 50"):
        list(Learner(network).epoch(network.loader(atlas), batches=50))
    with pytest.raises(pb.UsageError, match="'D' is not a known perturbation"):
        network.perturbations([[("D", 1.0)]])
    with pytest.raises(pb.UsageError, match="'d9' is not a known donor"):
        network.covariates([{"donor": "d9"}])
    with pytest.raises(pb.UsageError, match="'donor' is not a known covariate of the cell"):
        network.covariates([{"cell_type": "B"}])


def test_covariates_may_have_any_name(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    x = random.poisson(1.0, (300, 20)).astype(np.float32)
    obs = {"condition": random.choice(["ctrl", "A"], 300), "type": random.choice(["a", "b"], 300), "cell.line": random.choice(["c", "d"], 300)}
    anndata.AnnData(x, obs).write_h5ad(tmp_path / "s.h5ad")
    atlas = pb.ingest(tmp_path / "s.h5ad", out=tmp_path / "s.atlas", covariates=["type", "cell.line"])
    pb.split(atlas, name="a", scheme="random:0.2")
    network = CPA.for_atlas(atlas, "a", epochs=1, batch_size=50, set=TINY)
    learner = Learner(network)
    list(learner.epoch(network.loader(atlas)))
    restored = Learner(CPA.load(network.save(tmp_path / "m", learner.history)))
    restored.load_state_dict(learner.state_dict())
    with pytest.raises(pb.DataError, match="the state lacks covars_embeddings.cell.line.weight"):
        state = learner.state_dict()
        del state["network"]["covars_embeddings.cell.line.weight"]
        restored.load_state_dict(state)
