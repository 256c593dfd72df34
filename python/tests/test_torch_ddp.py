"""CPA and other networks in several processes, which torchrun starts and starts again: what they learn is what one process learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import perturbine as pb
import pytest
from screens import counts

torch = pytest.importorskip("torch", reason="without torch, training in several processes is not tested")
pytest.importorskip("safetensors", reason="without safetensors, models of torch are not tested")
pytest.importorskip("xxhash", reason="without xxhash, models of torch are not tested")
from ddp_worker import small_network  # noqa: E402
from perturbine.torch import CPA, Learner, batches_of_rank  # noqa: E402

WORKER = Path(__file__).with_name("ddp_worker.py")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "scale"
BATCHES, EPOCHS, STEPS = 4, 10, 50
SETTINGS = {"model.n_latent": 8, "model.n_hidden_encoder": 16, "model.n_hidden_decoder": 16, "adversary.n_hidden_adv": 12,
            "train.mixup_alpha": 0.2}


def batch_size(a_step: int = BATCHES) -> int:
    """With which five steps are an epoch, and no batch is left out."""
    cells = counts().open().splits["half"]["train"]
    return next(size for size in range(2, cells) if -(-cells // size) == 5 * a_step and cells % size != 1)


def run(folder: Path, world: int, *options: object, batches: int = BATCHES, restarts: int = 0, **variables: str) -> Path:
    """examples/scale/ddp.py in so many processes."""
    folder.mkdir(exist_ok=True)
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={world}", f"--max-restarts={restarts}", "--monitor-interval=0.1"]
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    line = [sys.executable, "-m", *launch, WORKER, "cpa", counts().atlas, "--split=half", f"--out={folder / 'model'}", *settings,
            f"--batches={batches}", f"--epochs={EPOCHS}", f"--batch-size={batch_size(batches)}", "--dtype=float64",
            f"--checkpoint={folder / 'run.pt'}", *options]
    environment = {**os.environ, "LOG": str(folder), "OMP_NUM_THREADS": "1", **variables}
    ran = subprocess.run([str(word) for word in line], capture_output=True, text=True, env=environment, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


def read(folder: Path, attempt: int, rank: int) -> list[Any]:
    """The epoch, and the cells of each batch, of each step of a rank."""
    return [json.loads(line) for line in (folder / f"cells-{attempt}-{rank}.jsonl").read_text().splitlines()]


def in_order(ranks: list[list[Any]]) -> list[list[Any]]:
    """The epoch and the cells of each batch of all ranks, in the order of one process."""
    return [[steps[0][0], batch] for steps in zip(*ranks) for batches in zip(*(batches for _, batches in steps)) for batch in batches]


def one_process(batches: int = BATCHES) -> SimpleNamespace:
    """The oracle: each step is the sum over the same batches, as with `train.accumulate`."""
    atlas = counts().open()
    network = CPA.for_atlas(atlas, "half", epochs=EPOCHS, batch_size=batch_size(batches), set=SETTINGS)
    learner, loader = Learner(network.double()), network.loader(atlas)
    order = [[epoch, batch.cell.tolist()] for epoch in range(EPOCHS) for batch in loader]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loader.set_epoch(0)
    steps = sum(1 for _ in range(EPOCHS) for _ in learner.epoch(loader, batches))
    torch.set_num_threads(threads)
    return SimpleNamespace(learner=learner, order=order, steps=steps)


@pytest.fixture(scope="module")
def alone() -> SimpleNamespace:
    return one_process()


def same(folder: Path, alone: SimpleNamespace) -> None:
    """The weights in a run's last checkpoint are those of one process."""
    state = torch.load(folder / "run.pt")["learner"]
    for part, module in (("network", alone.learner.network), ("adversaries", alone.learner.adversaries)):
        for name, expected in module.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                off = float((state[part][name] - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
                assert off <= 1e-9, f"{name} is off by {off}"
    expected = alone.learner.history
    assert [row["epoch"] for row in state["history"]] == [row["epoch"] for row in expected][: len(state["history"])]
    for row, known in zip(state["history"], expected):
        assert row == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_any_number_of_processes_learns_what_one_learns(world: int, alone: SimpleNamespace, tmp_path: Path) -> None:
    assert alone.steps == STEPS
    folder = run(tmp_path / "run", world, f"--every={STEPS}")
    ranks = [read(folder, 0, rank) for rank in range(world)]
    assert {len(steps) for steps in ranks} == {STEPS} and {len(batches) for steps in ranks for _, batches in steps} == {BATCHES // world}
    assert in_order(ranks) == alone.order
    same(folder, alone)
    gradients_of_the_large_batch(folder)


def gradients_of_the_large_batch(folder: Path) -> None:
    loss, found = torch.load(folder / "gradients.pt")
    loader = counts().open().loader(batch_size(), split="half", seed=3)
    network = small_network(len(loader.genes), len(loader.conditions))
    batches = [batch for batch, _ in zip(loader, range(BATCHES))]
    x, conditions = (torch.cat([get(batch) for batch in batches]) for get in (lambda batch: batch.x.double(), lambda batch: batch.condition))
    whole = torch.nn.functional.cross_entropy(network(x), conditions)
    whole.backward()
    assert loss == pytest.approx(whole.item(), rel=1e-12)
    for gradient, part in zip(found, network.parameters()):
        assert float((gradient - part.grad).abs().max() / part.grad.abs().max()) <= 1e-12


def test_what_was_learned_is_a_model_of_perturbine(alone: SimpleNamespace, tmp_path: Path) -> None:
    model = alone.learner.network.save(tmp_path / "model", alone.learner.history)
    atlas = counts().atlas
    scores = model.evaluate(atlas)
    assert scores.scores.to_arrow().num_rows > 1
    assert (tmp_path / "model" / "split.parquet").read_bytes() == (atlas / "splits" / "half.parquet").read_bytes()
    assert pb.verify(tmp_path / "model") is not None
    model.report(tmp_path / "page.html")
    assert model.history.to_arrow().num_rows == EPOCHS and model.card["epochs"] == EPOCHS
    means = model.predict(atlas, to="observed", out=tmp_path / "means.parquet").to_arrow().to_pylist()
    network = CPA.load(tmp_path / "model")
    x, obs = torch.from_numpy(counts().x.toarray()), counts().obs
    for row in means[:5]:
        rows = torch.from_numpy(((obs.condition == "ctrl") & (obs.donor == row["donor"])).to_numpy(copy=True))
        conditions = [list(zip(row["condition"].split("+"), map(float, row["dose"].split("+"))))]
        with torch.no_grad():
            labels = network.perturbations(conditions * int(rows.sum())), network.covariates([{"donor": row["donor"]}] * int(rows.sum()))
            mean = network(x[rows], *labels).mean(0)
        assert float((mean - torch.tensor(row["mean"])).abs().max()) <= 1e-5 * max(row["mean"])
    with pytest.raises(pb.UsageError, match="exists already"):
        network.save(tmp_path / "model")


def test_a_rank_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    """Rank 1 is killed behind step 13; the newest checkpoint is that of step 10."""
    alone = one_process(batches=2)
    folder = run(tmp_path / "run", 2, "--every=5", batches=2, restarts=1, DIE="1:13")
    ranks = [[*read(folder, 0, rank)[:10], *read(folder, 1, rank)] for rank in range(2)]
    assert 13 <= len(read(folder, 0, 1)) and in_order(ranks) == alone.order
    same(folder, alone)


def test_another_number_of_processes_goes_on(alone: SimpleNamespace, tmp_path: Path) -> None:
    """Four processes stop in the second epoch, and two go on."""
    folder = run(tmp_path / "run", 4, "--every=7", STOP="7")
    first = in_order([read(folder, 0, rank) for rank in range(4)])
    for rank in range(4):
        (folder / f"cells-0-{rank}.jsonl").unlink()
    run(folder, 2, "--every=43")
    assert first + in_order([read(folder, 0, rank) for rank in range(2)]) == alone.order
    same(folder, alone)


def test_numbers_of_processes_that_do_not_divide_a_step_are_refused() -> None:
    with pytest.raises(pb.UsageError, match="the 12 batches of a step can't be divided among 5 processes") as refused:
        batches_of_rank(12, 5)
    assert refused.value.hint == "start 1, 2, 3, 4, 6 or 12 processes, for example with `torchrun --nproc-per-node`"
    assert batches_of_rank(12, 6) == 2


def test_steps_of_another_number_of_batches_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ddp

    torch.save({"batches": 4}, tmp_path / "run.pt")
    with pytest.raises(SystemExit, match="its steps have 4 batches: give --batches 4"):
        ddp.Checkpoint(SimpleNamespace(checkpoint=tmp_path / "run.pt", every=1, batches=2))


def test_the_package_does_not_import_torch() -> None:
    script = "import sys, perturbine; assert 'torch' not in sys.modules; import perturbine.torch; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
