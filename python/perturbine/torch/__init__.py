"""CPA as a torch module: prediction, and training in one process or in several.

    import perturbine as pb
    from perturbine.torch import CPA, Learner

    network = CPA.load("kang.model")                                    # a model that Perturbine trained, in eval mode
    mean = network(counts, network.perturbations([[("stim", 1.0)]] * n), network.covariates([{"cell_type": "B"}] * n))

    network = CPA.for_atlas(atlas, split="b", preset="cpa")             # a fresh one
    learner, loader = Learner(network), network.loader(atlas)
    for _ in range(network.config["train"]["epochs"]):
        for measured in learner.epoch(loader):
            ...
    model = network.save("mine.model", learner.history)                 # what `perturbine predict`, `evaluate` and `report` take

`examples/scale/ddp.py` does the same in several processes, and docs/scale.md describes it. Needs torch, and safetensors and xxhash for
folders. `import perturbine` does not import this module.
"""

from ._adversaries import Adversaries
from ._cells import Cells, Draws, Mixup
from ._learner import Learner
from ._losses import Decoded, reconstruction
from ._network import CPA, Latent
from ._ranks import batches_of_rank, join, leave, steps, summed, world
from ._schedule import Clock, Schedule

__all__ = [
    "CPA",
    "Adversaries",
    "Cells",
    "Clock",
    "Decoded",
    "Draws",
    "Latent",
    "Learner",
    "Mixup",
    "Schedule",
    "batches_of_rank",
    "join",
    "leave",
    "reconstruction",
    "steps",
    "summed",
    "world",
]
