"""A model that Perturbine trained, as a plain PyTorch module. Needs torch and safetensors.

    from perturbine_torch import CPA
    model = CPA.load("kang.model")                                      # in eval mode
    mean = model(counts, model.perturbations([[("stim", 1.0)]] * n), model.covariates([{"cell_type": "B"}] * n))

`counts` is [cells, genes], genes in the order of `model.genes`. The result is what is expected of every cell and gene: counts that add
up to each cell's own library, or values where the model was trained on continuous ones. It can be trained on: everything is autograd.
"""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class Hidden(nn.Module):
    """Linear, batch norm, layer norm, ReLU, dropout, each where it is on."""

    def __init__(self, inputs, width, layers, norm, dropout):
        super().__init__()
        self.layer_norm, self.dropout = "layer" in norm, dropout
        parts = OrderedDict()
        for layer in range(layers):
            parts[f"Layer {layer}"] = nn.ModuleList([nn.Linear(inputs if layer == 0 else width, width)])
            if "batch" in norm:
                parts[f"Layer {layer}"].append(nn.BatchNorm1d(width, eps=1e-3, momentum=0.01))
        self.fc_layers = nn.ModuleDict(parts)

    def forward(self, x):
        for layer in self.fc_layers.values():
            for part in layer:
                x = part(x)
            if self.layer_norm:
                x = F.layer_norm(x, x.shape[1:])
            x = F.dropout(F.relu(x), self.dropout, self.training)
        return x


class Bag(nn.Module):
    """A module that only holds others, by name."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class CPA(nn.Module):
    def __init__(self, card):
        super().__init__()
        self.card, self.genes = card, card["genes"]
        model, vocabulary = card["config"]["model"], card["vocabulary"]
        self.settings, self.vocabulary = model, vocabulary
        genes, latent, names = len(self.genes), model["n_latent"], len(vocabulary["perturbations"])
        shape = {part: [model[f"{name}_{part}"] for name in ("n_hidden", "n_layers", "norm", "dropout_rate")]
                 for part in ("encoder", "decoder")}
        to = lambda part, outputs: nn.Linear(model[f"n_hidden_{part}"], outputs)
        encoder = Hidden(genes, *shape["encoder"])
        self.encoder = (Bag(encoder=encoder, mean_encoder=to("encoder", latent), var_encoder=to("encoder", latent))
                        if model["variational"] else Bag(network=encoder, z=to("encoder", latent)))
        decoder = Hidden(latent, *shape["decoder"])
        if model["recon_loss"] == "gauss":
            self.decoder = Bag(encoder=decoder, mean_encoder=to("decoder", genes), var_encoder=to("decoder", genes))
        else:
            self.decoder = Bag(px_decoder=decoder, px_scale_decoder=nn.ModuleList([to("decoder", genes)]))
            if model["recon_loss"] == "zinb":
                self.decoder.px_dropout_decoder = to("decoder", genes)
            self.px_r = nn.Parameter(torch.zeros(genes))
        width, unseen = vocabulary.get("embedding_width"), len(vocabulary.get("unseen", []))
        dosers = Bag(beta=nn.Parameter(torch.ones(1, names)), bias=nn.Parameter(torch.zeros(1, names)))
        if model["doser_type"] == "mlp":
            sizes = [1, *[model["n_hidden_doser"]] * model["n_layers_doser"], 1]
            dosers.layers = nn.ModuleList(
                Bag(weight=nn.Parameter(torch.zeros(names, outputs, inputs)), bias=nn.Parameter(torch.zeros(names, outputs)))
                for inputs, outputs in zip(sizes, sizes[1:]))
        self.pert_network = Bag(pert_embedding=nn.Embedding(names + unseen, width or latent), dosers=dosers)
        if width:
            self.pert_network.pert_transformation = nn.Linear(width, latent)
            self.pert_network.control_embedding = nn.Embedding(1, latent)
        self.covars_embeddings = nn.ModuleDict(
            {covariate["name"]: nn.Embedding(len(covariate["values"]), latent) for covariate in vocabulary["covariates"]})

    @classmethod
    def load(cls, folder):
        model = cls(json.loads((Path(folder) / "model.json").read_text()))
        weights = {name.removeprefix("module."): value for name, value in load_file(Path(folder) / "model.safetensors").items()}
        counters = {name for name in model.state_dict() if name.endswith("num_batches_tracked")}
        lacking = set(model.load_state_dict(weights, strict=False).missing_keys) - counters
        if lacking:
            raise ValueError(f"{folder} lacks {sorted(lacking)}")
        return model.eval()

    def perturbations(self, conditions):
        """Codes and doses of conditions, each a list of (perturbation, dose); an empty one is control."""
        codes = {name: code for code, name in enumerate(self.vocabulary["perturbations"])}
        rows = [sorted((codes[name], dose) for name, dose in condition) or [(1, 1.0)] for condition in conditions]
        if self.vocabulary.get("doses_as_written"):  # the original sorts perturbations, not their doses
            rows = [[(code, dose) for (code, _), (_, dose) in zip(row, condition or [(None, 1.0)])]
                    for row, condition in zip(rows, conditions)]
        width = max(map(len, rows))
        rows = torch.tensor([row + [(0, 0.0)] * (width - len(row)) for row in rows])
        return rows[..., 0].long(), rows[..., 1]

    def covariates(self, cells):
        """Codes of cells, each a dictionary of values."""
        values = {covariate["name"]: covariate["values"] for covariate in self.vocabulary["covariates"]}
        return {name: torch.tensor([known.index(cell[name]) for cell in cells]) for name, known in values.items()}

    def basal(self, x):
        x = x if self.settings["recon_loss"] == "gauss" else torch.log1p(x)
        parts = self.encoder
        return parts.mean_encoder(parts.encoder(x)) if self.settings["variational"] else parts.z(parts.network(x))

    def dose_scale(self, codes, doses):
        kind, dosers = self.settings["doser_type"], self.pert_network.dosers
        if kind == "linear":
            return doses
        doses = doses if kind == "sigm" else torch.log1p(doses)
        if kind != "mlp":
            beta, bias = dosers.beta[0][codes], dosers.bias[0][codes]
            return torch.sigmoid(doses * beta + bias) - torch.sigmoid(bias)

        def network(x):
            x = x[..., None]
            for at, layer in enumerate(dosers.layers):
                x = torch.einsum("...oi,...i->...o", layer.weight[codes], x) + layer.bias[codes]
                x = F.relu(x) if at + 1 < len(dosers.layers) else x
            return torch.sigmoid(x[..., 0])

        return network(doses) - network(torch.zeros_like(doses))

    def perturbation_latent(self, codes, doses):
        rows = self.pert_network.pert_embedding(codes)
        if self.vocabulary.get("embedding_width"):
            control = self.pert_network.control_embedding.weight
            rows = torch.where((codes == 1)[..., None], control, self.pert_network.pert_transformation(rows))
        return (rows * (self.dose_scale(codes, doses) * (codes != 0))[..., None]).sum(1)

    def forward(self, x, perturbations, covariates):
        z = self.basal(x) + self.perturbation_latent(*perturbations)
        z = z + sum(self.covars_embeddings[name](codes) for name, codes in covariates.items())
        if self.settings["recon_loss"] == "gauss":
            return self.decoder.mean_encoder(self.decoder.encoder(z))
        hidden = self.decoder.px_decoder(z)
        mean = torch.softmax(self.decoder.px_scale_decoder[0](hidden), -1) * x.sum(1, keepdim=True)
        if self.settings["recon_loss"] == "zinb" and self.card["config"]["compat"] == "none":
            mean = mean * torch.sigmoid(-self.decoder.px_dropout_decoder(hidden))
        return mean
