#!/usr/bin/env python3
"""Our training step as a plain PyTorch loop: what our figures on a GPU are compared with.

    python3 scripts/original_step.py [--device cuda:0] [--batch 128 2048] [--genes 5000] [--seconds 5] [--as-original]

The network and the adversaries are those that scripts/gpu-check trains (preset `cpa` with hidden 512 x 3, latent 128, `nb`): three adversary
layers of 64 with batch norm and dropout, class weights, and the gradient penalty through automatic differentiation. Three optimisers,
gradient clipping, float32, PyTorch's defaults. One step in `--adv-steps` trains the autoencoder, the others train the adversaries.

Without `--as-original` the loop takes the same step as ours: its batches are on the device already, the decoder runs only where the
autoencoder learns, and losses stay on the device. With it, the loop does what cpa-tools 0.8.8 does in every step: it copies a dense batch
from the host, runs the whole network on every batch, and reads the loss and the metrics. Even then it leaves out what surrounds that step
(Lightning, scvi's loaders, the R2 of each condition of a batch), so it is quicker than cpa-tools.

It prints one line of JSON for each batch size.
"""

import argparse
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

LATENT, HIDDEN, LAYERS = 128, 512, 3
ADVERSARY_HIDDEN, ADVERSARY_LAYERS, ADVERSARY_DROPOUT = 64, 3, 0.3
ADVERSARY_WEIGHT, PENALTY_WEIGHT = 20.0, 5.0
CONDITIONS, CELL_TYPES = 100, 3
# Padding and control come before the perturbations.
PERTURBATIONS = CONDITIONS + 2
CLIP = 1.0
WARM_UP_STEPS = 12
# Batches that are made beforehand and taken in turn.
BATCHES = 4


def layers(inputs, width, count, norm, dropout=0.0):
    """Linear layers, each followed by its norm, ReLU and dropout."""
    parts = []
    for at in range(count):
        parts.append(nn.Linear(inputs if at == 0 else width, width))
        parts.append(nn.BatchNorm1d(width, momentum=0.01, eps=1e-3) if norm == "batch" else nn.LayerNorm(width, elementwise_affine=False))
        parts.append(nn.ReLU())
        if dropout:
            parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts)


class Network(nn.Module):
    """The autoencoder."""

    def __init__(self, genes):
        super().__init__()
        self.encoder = nn.Sequential(layers(genes, HIDDEN, LAYERS, "batch"), nn.Linear(HIDDEN, LATENT))
        self.perturbations = nn.Embedding(PERTURBATIONS, LATENT, padding_idx=0)
        self.slope = nn.Parameter(torch.ones(PERTURBATIONS))
        self.bias = nn.Parameter(torch.zeros(PERTURBATIONS))
        self.cell_types = nn.Embedding(CELL_TYPES, LATENT)
        self.decoder = nn.Sequential(layers(LATENT, HIDDEN, LAYERS, "layer", 0.1), nn.Linear(HIDDEN, genes))
        self.theta = nn.Parameter(torch.randn(genes))

    def dosers(self):
        return [self.slope, self.bias]

    def basal(self, x):
        return self.encoder(torch.log1p(x))

    def loss(self, x, basal, perturbations, doses, cell_types):
        """The negative log-likelihood: the sum over genes, the mean over cells."""
        slope, bias = self.slope[perturbations], self.bias[perturbations]
        dose = torch.sigmoid(torch.log1p(doses) * slope + bias) - torch.sigmoid(bias)
        z = basal + (dose.unsqueeze(-1) * self.perturbations(perturbations)).sum(1) + self.cell_types(cell_types)
        mean = torch.softmax(self.decoder(z), -1) * x.sum(1, keepdim=True)
        return -negative_binomial(x, mean, torch.exp(self.theta)).sum(-1).mean()


def negative_binomial(x, mean, theta, eps=1e-8):
    log_sum = torch.log(theta + mean + eps)
    return (
        theta * (torch.log(theta + eps) - log_sum)
        + x * (torch.log(mean + eps) - log_sum)
        + torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
    )


class Adversaries(nn.Module):
    """Classifiers that guess the condition and the cell type from the basal latent."""

    def __init__(self):
        super().__init__()

        def classifier(classes):
            hidden = layers(LATENT, ADVERSARY_HIDDEN, ADVERSARY_LAYERS, "batch", ADVERSARY_DROPOUT)
            return nn.Sequential(hidden, nn.Linear(ADVERSARY_HIDDEN, classes))

        self.classifiers = nn.ModuleDict({"condition": classifier(CONDITIONS), "cell_type": classifier(CELL_TYPES)})
        self.register_buffer("weights", torch.full((CONDITIONS,), CONDITIONS - 1.0))

    def forward(self, basal, classes, penalised):
        """The sum of the losses, the sum of the gradient penalties, and what is reported."""
        if penalised:
            basal = basal.detach().requires_grad_(True)
        loss, penalty, reported = 0.0, 0.0, []
        for name, classifier in self.classifiers.items():
            logits = classifier(basal)
            one = F.cross_entropy(logits, classes[name], weight=self.weights if name == "condition" else None)
            loss = loss + one
            reported += [one.detach(), (logits.argmax(1) == classes[name]).float().mean()]
            if penalised:
                slope = torch.autograd.grad(logits.sum(), basal, create_graph=True)[0]
                penalty = penalty + slope.pow(2).mean()
        return loss, penalty, reported


class Loop:
    """The network, its optimisers and some batches to learn from."""

    def __init__(self, device, size, options):
        torch.manual_seed(0)
        self.device, self.options = device, options
        self.network, self.adversaries = Network(options.genes).to(device), Adversaries().to(device)
        dosers = {id(parameter) for parameter in self.network.dosers()}
        self.rest = [parameter for parameter in self.network.parameters() if id(parameter) not in dosers]
        self.of_autoencoder = [
            torch.optim.Adam(self.rest, lr=1e-3, weight_decay=4e-7),
            torch.optim.Adam(self.network.dosers(), lr=3e-4, weight_decay=4e-7),
        ]
        self.of_adversaries = torch.optim.Adam(self.adversaries.parameters(), lr=1e-3, weight_decay=4e-7)
        self.batches = [self.batch(size) for _ in range(BATCHES)]
        self.sums = None

    def batch(self, size):
        """Cells with a tenth of the genes, as the atlas of scripts/gpu-check has them."""
        x = torch.randint(1, 8, (size, self.options.genes)).float() * (torch.rand(size, self.options.genes) < 0.1)
        conditions = torch.randint(0, CONDITIONS, (size,))
        parts = (x, conditions, torch.ones(size, 1), torch.randint(0, CELL_TYPES, (size,)))
        return parts if self.options.as_original else tuple(part.to(self.device) for part in parts)

    def step(self, at):
        x, conditions, doses, cell_types = (part.to(self.device) for part in self.batches[at % len(self.batches)])
        classes = {"condition": conditions, "cell_type": cell_types}
        perturbations = (conditions + 2).unsqueeze(1)
        trains_autoencoder = at % self.options.adv_steps == 0
        with torch.set_grad_enabled(trains_autoencoder or self.options.as_original):
            basal = self.network.basal(x)
        if trains_autoencoder or self.options.as_original:
            recon = self.network.loss(x, basal, perturbations, doses, cell_types)
        if trains_autoencoder:
            loss, _, reported = self.adversaries(basal, classes, penalised=False)
            for optimiser in self.of_autoencoder:
                optimiser.zero_grad()
            (recon - ADVERSARY_WEIGHT * loss).backward()
            nn.utils.clip_grad_norm_(self.rest, CLIP)
            nn.utils.clip_grad_norm_(self.network.dosers(), CLIP)
            for optimiser in self.of_autoencoder:
                optimiser.step()
        else:
            loss, penalty, reported = self.adversaries(basal, classes, penalised=True)
            self.of_adversaries.zero_grad()
            (loss + PENALTY_WEIGHT * penalty).backward()
            nn.utils.clip_grad_norm_(self.adversaries.parameters(), CLIP)
            self.of_adversaries.step()
        if self.options.as_original:
            reported.append(recon.detach())
            for value in reported:
                value.item()
        return loss.detach()

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def cells_per_second(self, size):
        for at in range(WARM_UP_STEPS):
            self.step(at)
        self.wait()
        started, taken = time.perf_counter(), 0
        while time.perf_counter() - started < self.options.seconds:
            # Whole turns, so that either kind of step is taken as often as it has to be. The host runs ahead by one turn at most.
            for _ in range(4 * self.options.adv_steps):
                loss = self.step(taken)
                taken += 1
            self.wait()
        rate = taken * size / (time.perf_counter() - started)
        if not math.isfinite(loss.item()) and not self.options.values_mean_nothing:
            raise SystemExit("the loss is not finite")
        return rate


def main():
    parser = argparse.ArgumentParser(description="Our training step as a plain PyTorch loop; see the top of this file.")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 2048])
    parser.add_argument("--genes", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0, help="minimum time for each batch size")
    parser.add_argument("--adv-steps", type=int, default=3)
    parser.add_argument("--as-original", action="store_true", help="do everything that cpa-tools does in a step")
    parser.add_argument("--values-mean-nothing", action="store_true", help="accept any loss: the device is a stand-in")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    for size in options.batch:
        rate = Loop(device, size, options).cells_per_second(size)
        print(json.dumps({"what": "cpa-tools' step" if options.as_original else "the same step", "torch": torch.__version__,
                          "device": name, "batch": size, "genes": options.genes, "adv_steps": options.adv_steps,
                          "cells_per_second": round(rate)}), flush=True)


if __name__ == "__main__":
    main()
