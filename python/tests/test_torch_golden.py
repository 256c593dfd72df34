"""CPA in torch computes what the original computes: outputs, losses, gradients of both sides, parameters after steps, and schedules.

The numbers were made with cpa-tools 0.8.8 (tests/golden/README.md); tests/golden.rs compares the Rust engine with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="without torch, CPA in torch is not compared with the original")
from perturbine.torch import CPA, Adversaries, Cells, Clock, Draws, Learner, Mixup, Schedule, reconstruction  # noqa: E402
from perturbine.torch._learner import Autoencoder  # noqa: E402
from perturbine.torch._losses import log_likelihood  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
CASES = json.loads((GOLDEN / "cases.json").read_text())
SCHEDULES = json.loads((GOLDEN / "schedules.json").read_text())
NOTHING = ("n_epochs_pretrain_ae", "n_steps_pretrain_ae", "n_epochs_adv_warmup", "n_steps_adv_warmup", "n_epochs_kl_warmup",
           "n_steps_kl_warmup", "n_epochs_mixup_warmup")


def norm(options: dict[str, Any], part: str) -> str:
    on = options.pop(f"use_batch_norm_{part}", True), options.pop(f"use_layer_norm_{part}", False)
    return {(True, True): "batch+layer", (True, False): "batch", (False, True): "layer", (False, False): "none"}[on]


def config(recon: str, model: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """A case's settings; what it does not name is the original's default."""
    model, plan = dict(model), {name: value or 0 for name, value in plan.items()}
    sizes = {"n_latent": 128, "n_hidden_encoder": 256, "n_layers_encoder": 3, "dropout_rate_encoder": 0.0, "n_hidden_decoder": 256,
             "n_layers_decoder": 3, "dropout_rate_decoder": 0.0, "variational": False, "doser_type": "logsigm", "n_hidden_doser": 128,
             "n_layers_doser": 2}
    ours = {"recon_loss": recon, "offset": "none", "dispersion_start": "random", "output_deviation": 0.0, "perturbations_from_zero": False}
    ours |= {f"norm_{part}": norm(model, part) for part in ("encoder", "decoder")}
    ours |= {name: model.pop(name, value) for name, value in sizes.items()}
    seed = model.pop("seed", 0)
    adversary = {"norm_adv": norm(plan, "adv")}
    for name, value in {"n_hidden_adv": 64, "n_layers_adv": 3, "dropout_rate_adv": 0.1, "adv_loss": "cce", "reg_adv": 1.0, "pen_adv": 1.0,
                        "adv_steps": 3, "adv_lr": 3e-4, "adv_wd": 4e-7}.items():
        adversary[name] = plan.pop(name, value)
    train = {"objective": "reconstruction", "shrink_perturbations": False, "average": "none", "precision": "float32", "lr_decay": 0.9,
             "lr_schedule": "steps", "decoupled_decay": False, "decoder_on_every_batch": False, "epochs": 1, "batch_size": 64}
    for name, value in {"lr": 5e-4, "wd": 1e-6, "doser_lr": 3e-4, "doser_wd": 4e-7, "mixup_alpha": 0.0, "step_size_lr": 45,
                        **dict.fromkeys(NOTHING, 0)}.items():
        train[name] = plan.pop(name, value)
    clips, value = plan.pop("do_clip_grad", False), plan.pop("gradient_clip_value", 3.0)
    train["gradient_clip_value"] = value if clips else 0.0
    plan.pop("n_epochs_verbose", None)
    assert not model and not plan, f"unknown options: {model} {plan}"
    return {"compat": "cpa-tools-0.8.8", "seed": seed, "model": ours, "adversary": adversary, "train": train}


def vocabulary(case: dict[str, Any]) -> dict[str, Any]:
    def in_order(codes: dict[str, int]) -> list[str]:
        return sorted(codes, key=lambda name: codes[name])

    names = sorted(case["covars_encoder"], key=lambda name: (name == "batch", name))
    return {
        "perturbations": in_order(case["pert_encoder"]),
        "combinations": case["classes"],
        # A weight is n / n_class - 1 and the cells are 64.
        "combination_cells": [round(64 / (weight + 1)) for weight in case["drug_weights"]],
        "covariates": [{"name": name, "values": in_order(case["covars_encoder"][name])} for name in names],
        "batch": "batch" if "batch" in names else None,
        "doses_as_written": True,
        "trained": [],
    }


class Case:
    """One case: its arrays, and what of them was compared."""

    def __init__(self, name: str) -> None:
        case = CASES[name]
        self.arrays = {key: torch.from_numpy(array) for key, array in np.load(GOLDEN / f"{name}.npz").items()}
        self.double = "float64" in case["dtype"]
        self.tolerance = 1e-9 if self.double else 2e-6
        genes = [f"g{at}" for at in range(self.arrays["batch/X"].shape[1])]
        self.card = {"config": config(case["recon"], case["model"], case["plan"]), "vocabulary": vocabulary(case), "genes": genes}
        self.compared: set[str] = set()
        kind = torch.float64 if self.double else torch.float32
        self.cells = Cells(
            self.arrays["batch/X"].to(kind),
            self.arrays["batch/perts"].long(),
            self.arrays["batch/perts_doses"].to(kind),
            {covariate["name"]: self.codes(covariate["name"]) for covariate in self.card["vocabulary"]["covariates"]},
            self.codes("condition"),
        )

    def codes(self, key: str) -> Any:
        return self.arrays[f"batch/{key}"].long().flatten()

    def learner(self) -> Learner:
        """The original's initial weights."""
        network = CPA(self.card)
        learner = Learner(network.double() if self.double else network)
        weights = {key.removeprefix("init/"): value for key, value in self.arrays.items() if key.startswith("init/")}
        for module, prefix in ((learner.network, "module."), (learner.adversaries, "")):
            own = {name: weights[prefix + name] for name in module.state_dict()}
            module.load_state_dict(own)
        return learner

    def draws(self, noise: str, step: int | None = None) -> Draws:
        partners, given = self.arrays.get("mixup/perm"), self.arrays.get(noise)
        mixup = None if partners is None else Mixup(partners.long(), float(self.arrays["mixup/lambda"]))
        return Draws(mixup, None if given is None else given if step is None else given[step])

    def equal(self, key: str, found: Any, tolerance: float | None = None) -> None:
        expected, found = self.arrays[key].double().flatten(), torch.as_tensor(found).detach().double().flatten()
        assert expected.shape == found.shape, key
        scale = float(expected.abs().max())
        off = float((expected - found).abs().max()) / (scale if scale > 1e-12 else 1.0)
        assert off <= (tolerance or self.tolerance), f"`{key}` is off by {off}"
        self.compared.add(key.partition("/")[0])

    def equal_if_there(self, key: str, found: Any) -> None:
        if key in self.arrays:
            self.equal(key, found)

    def gradients(self, group: str, total: Any, named: dict[str, Any]) -> None:
        if not any(key.startswith(f"{group}/") for key in self.arrays):
            return
        named = {name: value for name, value in named.items() if value.requires_grad}
        found = torch.autograd.grad(total, list(named.values()), retain_graph=True, allow_unused=True)
        expected = {key.removeprefix(f"{group}/") for key in self.arrays if key.startswith(f"{group}/")}
        for name, gradient in zip(named, found):
            noise = 1e-9 if self.double else 1e-4
            if name not in expected or float(self.arrays[f"{group}/{name}"].abs().max()) <= noise:
                # The gradient of a bias before batch norm is zero in theory, and rounding noise in practice.
                assert gradient is None or float(gradient.abs().max()) <= noise, name
            else:
                self.equal(f"{group}/{name}", gradient)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_the_forward_pass_and_gradients_are_the_originals(case: Case) -> None:
    learner, draws = case.learner(), case.draws("eps/forward_z")
    network, adversaries = learner.network, learner.adversaries
    cells = draws.mixup.of_cells(case.cells) if draws.mixup else case.cells
    case.equal_if_there("fwd/X_in", cells.x)
    latent = network.latent(cells, draws)
    covariates = latent.covariates + latent.batch
    for name, found in {
        "z_basal": latent.basal,
        "z": latent.after(),
        "z_corrected": latent.basal + latent.perturbation + latent.covariates,
        "z_covs": covariates,
        "z_no_pert": latent.basal + covariates,
        "z_no_pert_corrected": latent.basal + latent.covariates,
        # The golden term of the perturbations is the one before mixing.
        "z_pert": network.perturbation_latent(cells.codes, cells.doses),
    }.items():
        case.equal(f"fwd/{name}", found)
    if latent.drawn_from:
        case.equal("fwd/qz_loc", latent.drawn_from[0])
        case.equal("fwd/qz_scale", latent.drawn_from[1])
    library = cells.x.sum(1, keepdim=True)
    decoded, kind = network.decode(latent.after(), library), network.settings["recon_loss"]
    if kind == "gauss":
        case.equal("fwd/px_loc", decoded.mean)
        case.equal("fwd/px_scale", decoded.spread.sqrt())
    else:
        case.equal("fwd/px_mu", decoded.mean)
        case.equal("fwd/px_theta", decoded.spread)
        case.equal("fwd/library", library.log())
    if kind == "zinb":
        case.equal("fwd/px_zi_logits", decoded.zeros)
    case.equal_if_there("fwd/log_prob", log_likelihood(decoded, cells.x, kind))
    case.equal("loss/recon", reconstruction(decoded, cells.x, kind))

    schedule = Schedule.at(network.config, Clock())
    case.equal("loss/kl_weight", schedule.divergence_weight)
    case.equal("loss/adv_lambda", schedule.adversary_weight)
    fresh = case.learner()
    recon, apart, basal = Autoencoder(fresh.network)(cells, draws)
    case.equal("loss/kl", apart)
    for name, logits in adversaries.logits(latent.basal.detach()).items():
        case.equal_if_there(f"adv_logits/{name}", logits)
    verdict = case.learner().adversaries(basal, cells, draws.mixup)
    case.equal_if_there("aestep/adv_loss", verdict.loss)
    total = recon + schedule.divergence_weight * apart - schedule.adversary_weight * verdict.loss
    case.equal("loss/ae_total", total)
    case.gradients("grad_ae", total, {f"module.{name}": value for name, value in fresh.network.named_parameters()})
    judged = fresh.adversaries(basal, cells, draws.mixup, penalised=True)
    case.equal_if_there("advstep/adv_loss", judged.loss)
    total = judged.loss + judged.penalty * network.config["adversary"]["pen_adv"]
    case.equal("loss/adv_total", total)
    named = dict(fresh.adversaries.named_parameters())
    case.gradients("grad_adv", total, named)
    case.gradients("grad_penalty", judged.penalty, named)
    assert {"fwd", "loss"} <= case.compared


def test_steps_learn_what_the_original_learns(case: Case) -> None:
    learner, norms = case.learner(), []
    config, updates = learner.config, 0
    for step in range(5):
        schedule = Schedule.at(config, Clock(batch=step, step=step, updates=updates))
        measured = learner.step([case.cells], schedule, draws=[case.draws("eps/steps_z", step)])
        updates += 2 * schedule.autoencoder_learns + schedule.adversaries_learn
        norms += [measured[name] for name in ("norm_autoencoder", "norm_doser", "norm_adversary") if name in measured]
        if case.double:
            expected = float(case.arrays["steplog/recon_loss"][step])
            assert abs(float(measured["recon"]) - expected) <= 1e-9 * abs(expected)
        for module, prefix in ((learner.network, "module."), (learner.adversaries, "")):
            for name, value in module.state_dict().items():
                # In float32 the gradient of a bias before batch norm is rounding noise that Adam turns into whole steps.
                if (case.double or "running" in name) and not name.endswith("num_batches_tracked"):
                    case.equal_if_there(f"step{step + 1}/{prefix}{name}", value)
    if "steplog/clip_norms" in case.arrays:
        case.equal("steplog/clip_norms", torch.stack(norms))
    assert "step1" in case.compared


def test_cells_are_predicted_as_the_original_predicts(case: Case) -> None:
    if not any(key.startswith("eval/") for key in case.arrays):
        pytest.skip("the case has no predictions")
    network, cells = case.learner().network.eval(), case.cells
    latent = network.latent(cells, Draws(noise=case.draws("eps/eval_z").noise))
    case.equal("eval/z_basal", latent.basal)
    for name, z in {
        "z": latent.after(),
        "z_basal": latent.basal,
        "z_corrected": latent.basal + latent.perturbation + latent.covariates,
        "z_no_pert": latent.basal + latent.covariates + latent.batch,
        "z_no_pert_corrected": latent.basal + latent.covariates,
    }.items():
        case.equal_if_there(f"eval/px_{name}", network.decode(z, cells.x.sum(1, keepdim=True)).mean)
    if not network.settings["variational"]:
        case.equal("eval/px_z", network(cells.x, (cells.codes, cells.doses), cells.covariates))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_the_originals(name: str) -> None:
    """Over 130 epochs of the published examples, and of two more plans."""
    settings = config("nb", {}, SCHEDULES[name]["cfg"])
    assert SCHEDULES[name]["columns"] == ["epoch", "adv_on", "adv_lambda", "mixup_alpha", "kl_weight", "lr_ae_during_epoch"]
    for epoch, adversarial, *numbers in SCHEDULES[name]["rows"]:
        schedule = Schedule.at(settings, Clock(epoch=epoch))
        assert schedule.adversarial == adversarial
        weight = schedule.adversary_weight if adversarial else None
        rate = settings["train"]["lr"] * schedule.rate
        for found, expected in zip([weight, schedule.mixup_alpha, schedule.divergence_weight, rate], numbers):
            assert found == expected or abs(found - expected) <= 1e-12 * abs(expected), f"epoch {epoch}: {found}, not {expected}"


def test_adversaries_need_several_classes() -> None:
    card = dict(Case("nb_bn_logsigm").card)
    card["vocabulary"] = {**card["vocabulary"], "combinations": ["ctrl"], "combination_cells": [64], "covariates": []}
    assert not Adversaries(card).any()
