"""Hidden layers, under the original's names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn

from .._errors import error_of


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


class Named(nn.Module):
    """Modules by names of the data's, of which `ModuleDict` refuses some: `type`, or those with a dot."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(modules)

    def __getitem__(self, name: str) -> Any:
        return self._modules[name]

    def __len__(self) -> int:
        return len(self._modules)

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and modules."""
        items: Iterable[tuple[str, Any]] = self._modules.items()
        return items


def restore(module: nn.Module, weights: Mapping[str, Any], path: object) -> None:
    """Loads weights by name. What the module has and the weights lack is an error; counters of batch norms are not needed.

    Raises:
        perturbine.Error: weights of another module; the error names what is missing.
    """
    missing = [name for name in module.load_state_dict(weights, strict=False).missing_keys if not name.endswith("num_batches_tracked")]
    if missing:
        raise error_of(65, f"{path} lacks {', '.join(sorted(missing))}", "take the file of this model, or restore it from a copy")
