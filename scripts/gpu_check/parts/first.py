"""The first steps on the device: `nb` needs lgamma and digamma, which CUDA compiles at run time with NVRTC."""

from .. import history
from ..atlases import make

TINY = [part for setting in ("model.n_latent=16", "model.n_hidden_encoder=64", "model.n_hidden_decoder=64", "model.recon_loss=nb")
        for part in ("--set", setting)]
# An epoch with dropout drawn by another generator: close to the CPU's loss, and no more than that.
CLOSE = 0.01


def first(check, budget):
    machine, results = check.machine, check.results
    atlas = make(machine, "tiny", 2000, budget, genes=300, conditions=8)
    train = ["train", atlas.path, "--preset", "cpa", "--epochs", 2, "--batch-size", 128, *TINY]
    with results.attempt("the program trains on the CPU"):
        report = machine.perturbine(*train, "--out", machine.data / "on-cpu", "--device", "cpu", budget=budget)
        results.check("the program trains on the CPU", report["device"] == "cpu", f"it says {report['device']}")
    if not machine.gpu:
        ran = machine.run("perturbine", *train, "--out", machine.data / "on-gpu", "--device", "cuda:0", budget=budget)
        refused = ran.code == 2 and "cuda:0" in ran.err and "hint" in ran.err
        results.check("without a GPU, --device cuda:0 says what is missing", refused, ran.why())
        return
    for engine in ("plain", "replayed"):
        name = f"NVRTC: steps of nb run on the GPU, engine {engine}"
        with results.attempt(name):
            arguments = [*train, "--out", machine.data / engine, "--device", machine.device, "--set", f"train.engine={engine}"]
            ran = machine.run("perturbine", *arguments, budget=budget)
            results.check(name, ran.code == 0, ran.why())
            if ran.code == 0:
                found, expected = (history.loss(history.epochs(machine.data / run)[0]) for run in (engine, "on-cpu"))
                off = abs(found - expected) / abs(expected)
                results.compare(f"an epoch of engine {engine} ends with the CPU's loss, to 1%", off < CLOSE, f"it is off by {off:.4f}")
