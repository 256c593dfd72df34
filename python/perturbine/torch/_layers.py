"""Hidden layers, under the original's names."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch.nn.functional as F
from torch import nn


class Hidden(nn.Module):
    """Linear, batch norm, layer norm, ReLU, dropout, each where it is on."""

    def __init__(self, inputs: int, width: int, layers: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.layer_norm, self.dropout = "layer" in norm, dropout
        parts = OrderedDict()
        for layer in range(layers):
            parts[f"Layer {layer}"] = nn.ModuleList([nn.Linear(width if layer else inputs, width)])
            if "batch" in norm:
                parts[f"Layer {layer}"].append(nn.BatchNorm1d(width, eps=1e-3, momentum=0.01))
        self.fc_layers = nn.ModuleDict(parts)

    def forward(self, x: Any) -> Any:
        """The last layer's activations."""
        for layer in self.fc_layers.values():
            for part in layer:
                x = part(x)
            if self.layer_norm:
                x = F.layer_norm(x, x.shape[1:])
            x = F.dropout(F.relu(x), self.dropout, self.training)
        return x


class Bag(nn.Module):
    """A module that only holds others, by name."""

    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
