"""What is wanted of one H100 or H200, and the network it is wanted for."""

from dataclasses import dataclass

GENES = 5000
CONDITIONS = 100
CELLS = 1_000_000
BATCHES = (128, 2048, 8192)

PRESET = "cpa"
SETTINGS = (
    "model.n_latent=128",
    "model.n_hidden_encoder=512",
    "model.n_hidden_decoder=512",
    "model.n_layers_encoder=3",
    "model.n_layers_decoder=3",
    "model.recon_loss=nb",
    "model.doser_type=logsigm",
    "train.n_epochs_pretrain_ae=0",
    "train.n_epochs_adv_warmup=0",
    "train.mixup_alpha=0",
    "adversary.adv_steps=3",
)
NETWORK = "preset cpa, 5,000 genes, hidden 512 × 3, latent 128, nb; the autoencoder learns from one batch in three, the adversaries from the others; cells of all batches are counted"


@dataclass(frozen=True)
class Aim:
    """A row of the table: what is measured, and at least or at most how much of it is wanted."""

    what: str
    wanted: float
    unit: str
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        return value <= self.wanted if self.at_most else self.wanted <= value

    def is_better(self, value: float, other: float) -> bool:
        return value < other if self.at_most else other < value


AIMS = {
    "training 128": Aim("training, batch 128", 250_000, "cells/s"),
    "training 2048": Aim("training, batch 2,048", 1_000_000, "cells/s"),
    "training 8192": Aim("training, batch 8,192", 2_000_000, "cells/s"),
    "pytorch 128": Aim("against a plain PyTorch loop of the same step, batch 128", 12, "×"),
    "pytorch 2048": Aim("against a plain PyTorch loop of the same step, batch 2,048", 8, "×"),
    "streaming 128": Aim("streaming against packed batches, batch 128", 0.9, ""),
    "streaming 2048": Aim("streaming against packed batches, batch 2,048", 0.9, ""),
    "streaming 8192": Aim("streaming against packed batches, batch 8,192", 0.9, ""),
    "busy 2048": Aim("GPU busy in a clean epoch, batch 2,048", 0.95, "of the time"),
    "busy 8192": Aim("GPU busy in a clean epoch, batch 8,192", 0.95, "of the time"),
    "engine 128": Aim("graphs and own kernels against plain tch, batch 128", 3, "×"),
    "engine 2048": Aim("graphs and own kernels against plain tch, batch 2,048", 3, "×"),
    "means": Aim("means, cells × conditions a second", 5_000_000, "cells/s"),
    "means against cells": Aim("means against cells", 10, "×"),
    "training memory": Aim("device memory of training above the context, batch 128", 400, "MB", at_most=True),
    "inference memory": Aim("device memory of inference above the context", 250, "MB", at_most=True),
    "explain 128": Aim("explain off the measured memory, batch 128", 15, "%", at_most=True),
    "explain 2048": Aim("explain off the measured memory, batch 2,048", 15, "%", at_most=True),
    "explain 8192": Aim("explain off the measured memory, batch 8,192", 15, "%", at_most=True),
    "epoch": Aim("one epoch of 1,000,000 × 5,000", 2, "s", at_most=True),
    "means of 100": Aim("means of 100 conditions from 1,000,000 × 5,000", 20, "s", at_most=True),
}
