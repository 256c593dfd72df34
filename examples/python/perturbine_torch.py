"""A model that Perturbine trained, as a plain PyTorch module. Needs torch and safetensors.

    from perturbine_torch import CPA
    model = CPA.load("kang.model")                                      # in eval mode
    mean = model(counts, model.perturbations([[("stim", 1.0)]] * n), model.covariates([{"cell_type": "B"}] * n))

`counts` is [cells, genes], genes in the order of `model.genes`. The result is what is expected of every cell and gene: counts that add
up to each cell's own library, or values where the model was trained on continuous ones. It can be trained on: everything is autograd.
"""

import json
import math
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


class Offsets(nn.Module):
    """What is added to the decoder's output with `model.offset=additive`: profiles of controls, and sums of trained shifts (docs/model.md)."""

    def __init__(self, card):
        super().__init__()
        vocabulary, model = card["vocabulary"], card["config"]["model"]
        self.counts = model["recon_loss"] != "gauss"
        self.names = [covariate["name"] for covariate in vocabulary["covariates"]]
        self.kept = [at for at, name in enumerate(self.names) if name != vocabulary["batch"]]
        values = [covariate["values"] for covariate in vocabulary["covariates"]]
        self.contexts, self.with_controls, self.rows = [], set(), []
        for group in vocabulary["trained"]:
            context = tuple(values[at].index(group["covariates"][at]) for at in self.kept)
            if context not in self.contexts:
                self.contexts.append(context)
            at, parts = self.contexts.index(context), tuple(zip(group["perturbations"], group["doses"]))
            if not parts:
                self.with_controls.add(at)
            elif (parts, at) not in self.rows:
                self.rows.append((parts, at))
        self.trained, genes = len(vocabulary["perturbations"]), len(card["genes"])
        for name, size in (("controls", (len(self.contexts), genes)), ("shifts", (len(self.rows), genes)), ("chosen", (5,)),
                           ("half_effects", (self.trained,))):
            self.register_buffer(name, torch.zeros(size))

    def effect(self, code, dose):
        half = float(self.half_effects[code]) if code < self.trained else 0.0
        return dose / (dose + half) if half > 0 else math.log1p(dose)

    def scale(self, code, known, wanted):
        flat = known < wanted and not (code < self.trained and self.half_effects[code] > 0) or self.effect(code, known) <= 0
        return 1.0 if flat else self.effect(code, wanted) / self.effect(code, known)

    def at_doses(self, rows, parts):
        """Weights of the rows of one combination in one context."""
        exact = [row for row in rows if self.rows[row][0] == parts]
        if exact:
            return {exact[0]: 1.0}
        if len(parts) > 1:
            far = lambda row: sum(abs(math.log1p(a[1]) - math.log1p(b[1])) for a, b in zip(self.rows[row][0], parts))
            nearest = min(rows, key=far)
            scales = [self.scale(code, known, dose) for (code, known), (_, dose) in zip(self.rows[nearest][0], parts)]
            return {nearest: sum(scales) / len(parts)}
        ((code, dose),) = parts
        known = sorted((self.rows[row][0][0][1], row) for row in rows)
        below, above = [pair for pair in known if pair[0] < dose], [pair for pair in known if pair[0] >= dose]
        if not below:
            return {above[0][1]: self.scale(code, above[0][0], dose)}
        if not above:  # as all trained doses grow, by least squares; as the largest where nothing is known of growth
            if code >= self.trained or self.half_effects[code] <= 0:
                return {below[-1][1]: 1.0}
            squares = sum(self.effect(code, known) ** 2 for known, _ in below)
            return {row: self.effect(code, dose) * self.effect(code, known) / squares for known, row in below}
        (low, first), (high, last) = below[-1], above[0]
        low, high, here = (self.effect(code, dose) for dose in (low, high, dose))
        share = (here - low) / (high - low) if low < high else 1.0
        return {first: 1 - share, last: share}

    def of_combination(self, parts, own, stand_ins):
        """Weights of a combination that was trained somewhere, else none."""
        seen = {}
        for row, (known, context) in enumerate(self.rows):
            if [code for code, _ in known] == [code for code, _ in parts]:
                seen.setdefault(context, []).append(row)
        if not seen:
            return None
        if own in seen:
            return self.at_doses(seen[own], parts)
        if self.with_controls & set(seen):
            seen = {context: rows for context, rows in seen.items() if context in self.with_controls}
        counted = [context for context in sorted(seen) if context in stand_ins] or sorted(seen)
        return added(*((self.at_doses(seen[context], parts), 1 / len(counted)) for context in counted))

    def of_part(self, part, own, stand_ins):
        alone = lambda part: self.of_combination((part,), own, stand_ins)
        if alone(part) is not None:
            return alone(part)
        first = {}
        for parts, _ in self.rows:
            first.setdefault(tuple(code for code, _ in parts), parts)
        with_it = [parts for codes, parts in first.items() if part[0] in codes]
        if not with_it:
            singles = [codes[0] for codes in first if len(codes) == 1]
            return added(*((alone((code, part[1])), 1 / len(singles)) for code in singles))
        sums = []
        for parts in with_it:
            known = [alone(other) for other in parts]
            rest = added((self.of_combination(parts, own, stand_ins), 1), *((weights, -1) for weights in known if weights is not None))
            sums.append((rest, 1 / (sum(weights is None for weights in known) * len(with_it))))
        return added(*sums)

    def row(self, parts, context):
        own = self.contexts.index(context) if context in self.contexts else None
        shared = {at: sum(a == b for a, b in zip(self.contexts[at], context)) for at in self.with_controls}
        stand_ins = [own] if own in self.with_controls else [at for at in shared if shared[at] == max(shared.values())]
        control = all(code == 1 for code, _ in parts)
        weights = {} if control else added(*((self.of_part(part, own, stand_ins), 1) for part in parts))
        level = self.controls[stand_ins].mean(0) + sum(weight * self.shifts[row] for row, weight in weights.items())
        return torch.log(torch.expm1(level).clamp_min(float(self.chosen[1]))) if self.counts else level

    def forward(self, perturbations, covariates):
        codes, doses = (tensor.tolist() for tensor in perturbations)
        contexts = zip(*(covariates[self.names[at]].tolist() for at in self.kept)) if self.kept else [()] * len(codes)
        keys = [(tuple((code, dose) for code, dose in zip(*pair) if code), context)
                for pair, context in zip(zip(codes, doses), contexts)]
        rows = {key: self.row(*key) for key in set(keys)}
        return torch.stack([rows[key] for key in keys])


def added(*weighted):
    """A sum of weights, each times a number."""
    sums = {}
    for weights, times in weighted:
        for row, weight in weights.items():
            sums[row] = sums.get(row, 0.0) + weight * times
    return sums


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
        offset = model.get("offset", "none")
        if offset == "additive":
            self.offset = Offsets(card)
        elif offset != "none":
            raise ValueError(f"this module has the offsets none and additive; the model was trained with {offset}")
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
        offset = self.offset(perturbations, covariates) if hasattr(self, "offset") else 0.0
        if self.settings["recon_loss"] == "gauss":
            return self.decoder.mean_encoder(self.decoder.encoder(z)) + offset
        hidden = self.decoder.px_decoder(z)
        mean = torch.softmax(self.decoder.px_scale_decoder[0](hidden) + offset, -1) * x.sum(1, keepdim=True)
        if self.settings["recon_loss"] == "zinb" and self.card["config"]["compat"] == "none":
            mean = mean * torch.sigmoid(-self.decoder.px_dropout_decoder(hidden))
        return mean
