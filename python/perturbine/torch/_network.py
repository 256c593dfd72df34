"""The autoencoder of CPA as a torch module, under the original's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .._arguments import path_of
from .._errors import error_of
from . import _saved
from ._cells import Cells, Draws
from ._learner import check
from ._layers import Bag, Hidden, Named, restore
from ._losses import Decoded
from ._offsets import Offsets
from ._schedule import is_original

if TYPE_CHECKING:
    from .._atlas import Atlas, Part
    from .._loader import Loader
    from .._model import Model
    from .._types import Many, Selector, StrPath

SMALLEST_VARIANCE = 1e-4


class Latent(NamedTuple):
    """Latents of a batch, each `[cells, latent]`."""

    basal: Any
    """The encoder's output."""
    perturbation: Any
    """The perturbations' term."""
    covariates: Any
    """The covariates' term, without the batch."""
    batch: Any
    """The batch's term; 0 if there is no batch."""
    drawn_from: tuple[Any, Any] | None = None
    """Mean and standard deviation of the distribution of the basal latents; None for points."""

    def after(self) -> Any:
        """The decoded latent."""
        return self.basal + self.perturbation + self.covariates + self.batch


class CPA(nn.Module):
    """A model of Perturbine as a torch module; everything in it can be trained on.

    Attributes:
        card: the content of `model.json`.
        genes: the names of its genes, in the order of its inputs and outputs.
        vocabulary: the names that it knows.
        config: all settings.
    """

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.card = dict(card)
        self.genes: list[str] = card["genes"]
        self.vocabulary: dict[str, Any] = card["vocabulary"]
        self.config: dict[str, Any] = card["config"]
        self.settings: dict[str, Any] = self.config["model"]
        self._files: _saved.Files = {}
        self._make_encoder_and_decoder()
        self._make_perturbations()
        latent = self.settings["n_latent"]
        self.covars_embeddings = Named({name: nn.Embedding(len(self.values(name)), latent) for name in self.covariate_names})
        offset = self.settings.get("offset", "none")
        if offset == "additive":
            self.offset = Offsets(card)
        elif offset != "none":
            message = f"this module has the offsets none and additive; the model was trained with {offset}"
            raise error_of(2, message, "predict with `perturbine predict`")

    def _make_encoder_and_decoder(self) -> None:
        model, genes, latent = self.settings, len(self.genes), self.settings["n_latent"]

        def hidden(part: str, inputs: int, dropout: float) -> Hidden:
            return Hidden(inputs, model[f"n_hidden_{part}"], model[f"n_layers_{part}"], model[f"norm_{part}"], dropout)

        def to(part: str, outputs: int) -> nn.Linear:
            return nn.Linear(model[f"n_hidden_{part}"], outputs)

        encoder = hidden("encoder", genes, model["dropout_rate_encoder"])
        if model["variational"]:
            self.encoder = Bag(encoder=encoder, mean_encoder=to("encoder", latent), var_encoder=to("encoder", latent))
        else:
            self.encoder = Bag(network=encoder, z=to("encoder", latent))
        if model["recon_loss"] == "gauss":
            decoder = hidden("decoder", latent, model["dropout_rate_decoder"])
            self.decoder = Bag(encoder=decoder, mean_encoder=to("decoder", genes), var_encoder=to("decoder", genes))
            means = self.decoder.mean_encoder
        else:
            # The original builds the decoder of counts without dropout, whatever the setting.
            decoder = hidden("decoder", latent, 0.0 if is_original(self.config) else model["dropout_rate_decoder"])
            self.px_r = nn.Parameter(torch.randn(genes))
            self.decoder = Bag(px_decoder=decoder, px_scale_decoder=nn.ModuleList([to("decoder", genes)]))
            means = self.decoder.px_scale_decoder[0]
            if model["recon_loss"] == "zinb":
                self.decoder.px_dropout_decoder = to("decoder", genes)
        if model.get("output_deviation", 0.0) > 0:
            nn.init.normal_(means.weight, std=model["output_deviation"])
            nn.init.zeros_(means.bias)

    def _make_perturbations(self) -> None:
        model, latent = self.settings, self.settings["n_latent"]
        names, unseen = len(self.vocabulary["perturbations"]), len(self.vocabulary.get("unseen", []))
        width = self.vocabulary.get("embedding_width")
        embedding = nn.Embedding(names + unseen, width or latent)
        # Padding has no effect; nor has any perturbation at first, if the settings say so.
        nn.init.zeros_(embedding.weight[: names if model.get("perturbations_from_zero") else 1].detach())
        embedding.weight.requires_grad_(width is None)
        # Parameters without an effect get no gradient, and no weight decay.
        slopes = model["doser_type"] in ("sigm", "logsigm")
        dosers = Bag(
            beta=nn.Parameter(torch.ones(1, names), requires_grad=slopes),
            bias=nn.Parameter(torch.zeros(1, names), requires_grad=slopes),
        )
        if model["doser_type"] == "mlp":
            sizes = [1, *[model["n_hidden_doser"]] * model["n_layers_doser"], 1]

            def uniform(*shape: int, bound: float) -> nn.Parameter:
                return nn.Parameter(torch.empty(names, *shape).uniform_(-bound, bound))

            dosers.layers = nn.ModuleList(
                Bag(weight=uniform(after, before, bound=before**-0.5), bias=uniform(after, bound=before**-0.5))
                for before, after in zip(sizes, sizes[1:])
            )
        self.pert_network = Bag(pert_embedding=embedding, dosers=dosers)
        if width:
            self.pert_network.pert_transformation = nn.Linear(width, latent)
            self.pert_network.control_embedding = nn.Embedding(1, latent)

    @classmethod
    def load(cls, folder: StrPath) -> CPA:
        """The model of a folder, in eval mode."""
        network, weights, files = _saved.read(path_of(folder), cls)
        network._files = files
        restore(network, weights, f"{path_of(folder)}/model.safetensors")
        network.eval()
        return network

    @classmethod
    def for_atlas(
        cls,
        atlas: Atlas,
        split: str,
        *,
        preset: str = "cpa",
        set: Many[Selector] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        genes: Many[str] | int | None = None,
    ) -> CPA:
        """A fresh model for a split of an atlas; the arguments are those of `perturbine.train`."""
        given = {"preset": preset, "set": set, "epochs": epochs, "batch_size": batch_size, "seed": seed, "genes": genes}
        card, files = _saved.of_atlas(atlas, split, given)
        check(card["config"])
        torch.manual_seed(card["config"]["seed"])
        network = cls(card)
        network._files = files
        return network

    def save(self, folder: StrPath, history: Iterable[Mapping[str, float]] = ()) -> Model:
        """Writes a new folder that `perturbine predict`, `evaluate` and `report` take.

        Args:
            folder: where; it must not exist.
            history: what was measured, a row for each epoch: `epoch`, `train.recon`, ...
        """
        from .._model import Model

        _saved.write(self, path_of(folder), self._files, history)
        return Model(folder)

    def loader(self, atlas: Atlas, split: str | None = None, part: Part = "train", **arguments: Any) -> Loader:
        """A loader of the cells, genes and labels that the model takes, in the order of its training.

        Args:
            atlas: the atlas.
            split: its split; by default, that of the model.
            part: the part of the split.
            arguments: others of `Atlas.loader`.
        """
        train = self.config["train"]
        defaults = {
            "genes": self.genes,
            "columns": self.covariate_names,
            "seed": self.config["seed"],
            "batch_size": train["batch_size"],
            "window": train["window"] or None,
            "output": "torch",
        }
        if part == "train":
            defaults |= {name: train[name] for name in ("sampling", "match_keys", "condition_weights")}
        return atlas.loader(split=self.card["split"] if split is None else split, part=part, **{**defaults, **arguments})

    @property
    def covariate_names(self) -> list[str]:
        """The names of the covariates, the batch last."""
        return [covariate["name"] for covariate in self.vocabulary["covariates"]]

    @property
    def place(self) -> torch.Tensor:
        """A parameter, whose device and type are the network's."""
        return self.covars_embeddings[self.covariate_names[0]].weight if self.covariate_names else next(self.parameters())

    def values(self, covariate: str) -> list[str]:
        """The values of a covariate, by their codes."""
        values: list[str] = next(known["values"] for known in self.vocabulary["covariates"] if known["name"] == covariate)
        return values

    def perturbations(self, conditions: Sequence[Sequence[tuple[str, float]]]) -> tuple[Any, Any]:
        """Codes and doses of conditions, each a list of (perturbation, dose); an empty one is control."""
        codes = {name: code for code, name in enumerate(self.vocabulary["perturbations"])}
        codes |= {name: len(codes) + at for at, name in enumerate(self.vocabulary.get("unseen", []))}
        coded = [[(_known(codes, name, "perturbation"), dose) for name, dose in condition] for condition in conditions]
        rows = [sorted(condition) or [(1, 1.0)] for condition in coded]
        if self.vocabulary.get("doses_as_written"):  # the original sorts perturbations, not their doses
            rows = [
                [(code, dose) for (code, _), (_, dose) in zip(row, condition or [("", 1.0)])] for row, condition in zip(rows, conditions)
            ]
        width = max(map(len, rows))
        padded = torch.tensor([row + [(0, 0.0)] * (width - len(row)) for row in rows], dtype=torch.float64)
        return padded[..., 0].long(), padded[..., 1].to(self.place.dtype)

    def covariates(self, cells: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """Codes of cells, each a dictionary of values."""
        codes = {name: {value: code for code, value in enumerate(self.values(name))} for name in self.covariate_names}
        return {
            name: torch.tensor([_known(of_values, _known(cell, name, "covariate of the cell"), name) for cell in cells])
            for name, of_values in codes.items()
        }

    def basal(self, x: Any) -> Any:
        """The basal latents of cells; of a variational encoder, their means."""
        drawn_from = self._encoded(x)
        return drawn_from[0] if isinstance(drawn_from, tuple) else drawn_from

    def _encoded(self, x: Any) -> Any:
        x = x if self.settings["recon_loss"] == "gauss" else torch.log1p(x)
        if not self.settings["variational"]:
            return self.encoder.z(self.encoder.network(x))
        hidden = self.encoder.encoder(x)
        return self.encoder.mean_encoder(hidden), (F.softplus(self.encoder.var_encoder(hidden)) + SMALLEST_VARIANCE).sqrt()

    def latent(self, cells: Cells, draws: Draws) -> Latent:
        """The latents of cells, those of a variational encoder drawn, the terms of labels mixed as `draws` say."""
        encoded = self._encoded(cells.x)
        drawn_from = encoded if isinstance(encoded, tuple) else None
        perturbation, (covariates, batch) = self.perturbation_latent(cells.codes, cells.doses), self._covariate_terms(cells.covariates)
        if draws.mixup is not None:
            perturbation, covariates, batch = (
                draws.mixup.mixed(term) if isinstance(term, torch.Tensor) else term for term in (perturbation, covariates, batch)
            )
        return Latent(_drawn(encoded, draws), perturbation, covariates, batch, drawn_from)

    def drawn(self, cells: Cells, draws: Draws) -> Any:
        """The basal latents of cells alone, those of a variational encoder drawn."""
        return _drawn(self._encoded(cells.x), draws)

    def _covariate_terms(self, covariates: Mapping[str, Any]) -> tuple[Any, Any]:
        """The term of all covariates but the batch, and that of the batch."""
        terms = {name: self.covars_embeddings[name](codes) for name, codes in covariates.items()}
        batch = terms.pop(self.vocabulary["batch"], 0.0)
        return sum(terms.values()), batch

    def dose_scale(self, codes: Any, doses: Any) -> Any:
        """The factor of each embedding."""
        kind, dosers = self.settings["doser_type"], self.pert_network.dosers
        if kind == "linear":
            return doses
        doses = doses if kind == "sigm" else torch.log1p(doses)
        if kind != "mlp":
            beta, bias = dosers.beta[0][codes], dosers.bias[0][codes]
            return torch.sigmoid(doses * beta + bias) - torch.sigmoid(bias)

        def network(x: Any) -> Any:
            x = x[..., None]
            for at, layer in enumerate(dosers.layers):
                x = torch.einsum("...oi,...i->...o", layer.weight[codes], x) + layer.bias[codes]
                x = F.relu(x) if at + 1 < len(dosers.layers) else x
            return torch.sigmoid(x[..., 0])

        return network(doses) - network(torch.zeros_like(doses))

    def perturbation_latent(self, codes: Any, doses: Any) -> Any:
        """The latent term of perturbations, `[cells, latent]`."""
        rows = self.pert_network.pert_embedding(codes)
        if self.vocabulary.get("embedding_width"):
            control = self.pert_network.control_embedding.weight
            rows = torch.where((codes == 1)[..., None], control, self.pert_network.pert_transformation(rows))
        return (rows * (self.dose_scale(codes, doses) * (codes != 0))[..., None]).sum(1)

    def decode(self, latent: Any, library: Any, offset: Any = 0.0) -> Decoded:
        """The distribution of every cell and gene; `library` is each cell's sum of counts, `[cells, 1]`."""
        if self.settings["recon_loss"] == "gauss":
            hidden = self.decoder.encoder(latent)
            return Decoded(self.decoder.mean_encoder(hidden) + offset, self.decoder.var_encoder(hidden).exp() + SMALLEST_VARIANCE)
        hidden = self.decoder.px_decoder(latent)
        mean = torch.softmax(self.decoder.px_scale_decoder[0](hidden) + offset, -1) * library
        zeros = self.decoder.px_dropout_decoder(hidden) if self.settings["recon_loss"] == "zinb" else None
        return Decoded(mean, self.px_r.exp(), zeros)

    def forward(self, x: Any, perturbations: tuple[Any, Any], covariates: Mapping[str, Any]) -> Any:
        """The expected value of every cell and gene: counts that add up to each cell's own library, or continuous values.

        Args:
            x: `[cells, genes]`, genes in the order of `genes`.
            perturbations: what `perturbations` returns.
            covariates: what `covariates` returns.
        """
        z = self.basal(x) + self.perturbation_latent(*perturbations) + sum(self._covariate_terms(covariates))
        offset = self.offset(perturbations, covariates) if hasattr(self, "offset") else 0.0
        mean, _, zeros = self.decode(z, x.sum(1, keepdim=True), offset)
        return mean if zeros is None or is_original(self.config) else mean * torch.sigmoid(-zeros)


def _drawn(encoded: Any, draws: Draws) -> Any:
    """Points as they are; a point from each of normals with these means and deviations."""
    if not isinstance(encoded, tuple):
        return encoded
    mean, deviation = encoded
    return mean + deviation * (torch.randn_like(mean) if draws.noise is None else draws.noise)


def _known(values: Mapping[str, Any], name: str, kind: str) -> Any:
    """The value of a name, or an error that lists the names that there are."""
    if name not in values:
        raise error_of(2, f"{name!r} is not a known {kind}", f"known are: {', '.join(values)}")
    return values[name]
