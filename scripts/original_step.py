#!/usr/bin/env python3
"""The original's training step as a plain PyTorch loop: what our figures on a GPU are compared with.

    python3 scripts/original_step.py [--device cuda:0] [--batch 128 2048] [--genes 5000] [--seconds 5]

The network of cpa-tools 0.8.8 with the project's figures (hidden 512 x 3, latent 128, `nb`), its adversaries with their gradient penalty,
three optimisers, gradient clipping, dense batches that come from the host, and the metrics that it reads every step. It leaves out
what the original does beside (Lightning, scvi's loaders, the R2 of each condition of a batch), so it is quicker than the original.
One line of JSON a batch size.
"""

import argparse
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

LATENT, HIDDEN, LAYERS, ADVERSARY = 128, 512, 3, 128
PERTURBATIONS, CELL_TYPES = 102, 3


def layers(inputs, width, count, batch_norm, dropout=0.0):
    parts = []
    for at in range(count):
        parts.append(nn.Linear(inputs if at == 0 else width, width))
        parts.append(nn.BatchNorm1d(width, momentum=0.01, eps=1e-3) if batch_norm else nn.LayerNorm(width, elementwise_affine=False))
        parts.append(nn.ReLU())
        if dropout:
            parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts)


class Network(nn.Module):
    def __init__(self, genes):
        super().__init__()
        self.encoder = nn.Sequential(layers(genes, HIDDEN, LAYERS, True, 0.1), nn.Linear(HIDDEN, LATENT))
        self.perturbations = nn.Embedding(PERTURBATIONS, LATENT, padding_idx=0)
        self.beta = nn.Parameter(torch.ones(1, PERTURBATIONS))
        self.bias = nn.Parameter(torch.zeros(1, PERTURBATIONS))
        self.cell_types = nn.Embedding(CELL_TYPES, LATENT)
        self.decoder = layers(LATENT, HIDDEN, LAYERS, True)
        self.scale = nn.Linear(HIDDEN, genes)
        # The original's decoder has it, and `nb` does not use it.
        self.dropout = nn.Linear(HIDDEN, genes)
        self.theta = nn.Parameter(torch.randn(genes))

    def dosers(self):
        return [self.beta, self.bias]

    def forward(self, x, perturbations, doses, cell_types):
        basal = self.encoder(torch.log1p(x))
        beta, bias = self.beta[0][perturbations], self.bias[0][perturbations]
        scale = torch.sigmoid(torch.log1p(doses) * beta + bias) - torch.sigmoid(bias)
        z = basal + (scale.unsqueeze(-1) * self.perturbations(perturbations)).sum(1) + self.cell_types(cell_types)
        hidden = self.decoder(z)
        self.dropout(hidden)
        mean = torch.softmax(self.scale(hidden), -1) * x.sum(1, keepdim=True)
        return basal, mean, torch.exp(self.theta)


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
    def __init__(self):
        super().__init__()
        heads = {"perts": PERTURBATIONS, "cell_type": CELL_TYPES}
        self.heads = nn.ModuleDict(
            {name: nn.Sequential(layers(LATENT, ADVERSARY, 2, True), nn.Linear(ADVERSARY, count)) for name, count in heads.items()}
        )

    def losses(self, basal, classes, penalised):
        if penalised:
            basal = basal.detach().requires_grad_(True)
        loss, penalty, told = 0.0, 0.0, {}
        for name, head in self.heads.items():
            logits = head(basal)
            one = F.cross_entropy(logits, classes[name])
            loss = loss + one
            # The original reads its metrics every step.
            told[name] = (one.item(), (logits.argmax(1) == classes[name]).float().mean().item())
            if penalised:
                slope = torch.autograd.grad(logits.sum(), basal, create_graph=True)[0]
                penalty = penalty + slope.pow(2).mean()
        return loss, penalty, told


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 2048])
    parser.add_argument("--genes", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--adv-steps", type=int, default=3)
    told = parser.parse_args()
    device = torch.device(told.device)
    for size in told.batch:
        print(json.dumps(run(device, size, told)), flush=True)


def run(device, size, told):
    torch.manual_seed(0)
    network, adversaries = Network(told.genes).to(device), Adversaries().to(device)
    dosers = {id(parameter) for parameter in network.dosers()}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in dosers]
    optimisers = [
        torch.optim.Adam(rest, lr=1e-3, weight_decay=4e-7),
        torch.optim.Adam(network.dosers(), lr=3e-4, weight_decay=4e-7),
        torch.optim.Adam(adversaries.parameters(), lr=3e-4, weight_decay=4e-7),
    ]
    batches = []
    for _ in range(4):
        x = torch.poisson(torch.full((size, told.genes), 0.3)) * (torch.rand(size, told.genes) < 0.4)
        perturbations = torch.randint(2, PERTURBATIONS, (size, 1))
        batches.append((x, perturbations, torch.ones(size, 1), torch.randint(0, CELL_TYPES, (size,))))

    def step(at):
        x, perturbations, doses, cell_types = (part.to(device) for part in batches[at % len(batches)])
        classes = {"perts": perturbations[:, 0], "cell_type": cell_types}
        basal, mean, theta = network(x, perturbations, doses, cell_types)
        recon = -negative_binomial(x, mean, theta).sum(-1).mean()
        if at % told.adv_steps == 0:
            loss = recon - adversaries.losses(basal, classes, False)[0]
            for optimiser in optimisers[:2]:
                optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(rest, 1.0)
            torch.nn.utils.clip_grad_norm_(network.dosers(), 1.0)
            for optimiser in optimisers[:2]:
                optimiser.step()
        else:
            loss, penalty, _ = adversaries.losses(basal, classes, True)
            optimisers[2].zero_grad()
            (loss + penalty).backward()
            torch.nn.utils.clip_grad_norm_(adversaries.parameters(), 1.0)
            optimisers[2].step()
        return recon.item()

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for at in range(10):
        last = step(at)
    wait()
    started, taken = time.perf_counter(), 0
    while time.perf_counter() - started < told.seconds:
        last = step(taken)
        taken += 1
    wait()
    rate = taken * size / (time.perf_counter() - started)
    if not math.isfinite(last):
        raise SystemExit("the loss is not finite")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"what": "plain PyTorch loop of the original's step", "torch": torch.__version__, "device": name, "batch": size,
            "genes": told.genes, "adv_steps": told.adv_steps, "cells_per_second": round(rate)}


if __name__ == "__main__":
    main()
