//! The network computes what the original computes: outputs, losses, gradients of both sides, and parameters after steps.
//!
//! The numbers were made with cpa-tools 0.8.8 (`tests/golden/README.md`); `PERTURBINE_GOLDEN` names another folder of
//! cases. Cases that ask for options which are not built yet (zinb, variational, focal, mixup) are named as skipped.
#![cfg(feature = "torch")]
#![allow(clippy::print_stdout, reason = "a golden test names its cases")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use schemas::{
    atlas::ValueKind,
    conditions::Covariate,
    config::{Doser, Norm, Plan, ReconLoss, Settings},
};
use serde_json::Value;
use stages::{
    model::{
        input::{Cells, Input},
        layers::Mode,
        losses::reconstruction,
        network::Output,
        schedule::Schedule,
        step::Learner,
    },
    vocabulary::Vocabulary,
};
use tch::{Device, Kind, Tensor};

struct Case {
    name: String,
    json: Value,
    arrays: BTreeMap<String, Tensor>,
    tolerance: f64,
    kind: Kind,
    compared: BTreeSet<String>,
}

#[test]
fn every_case_of_the_original_is_equalled() {
    let folder = std::env::var_os("PERTURBINE_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let text = std::fs::read_to_string(folder.join("cases.json")).expect("cases.json");
    let cases: BTreeMap<String, Value> = serde_json::from_str(&text).expect("cases.json is JSON");
    let mut run = 0;
    // As the numbers were made: how work is cut between threads shows in the last bits.
    tch::set_num_threads(1);
    for (name, json) in cases {
        let path = folder.join(format!("{name}.npz"));
        if let Some(why) = unsupported(&json) {
            println!("skipped: {name} ({why} is not built yet)");
            continue;
        }
        let arrays = Tensor::read_npz(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let double = json["dtype"].as_str().is_some_and(|dtype| dtype.contains("float64"));
        let (kind, tolerance) = if double { (Kind::Double, 1e-9) } else { (Kind::Float, 2e-6) };
        let mut case =
            Case { name, json, arrays: arrays.into_iter().collect(), tolerance, kind, compared: BTreeSet::new() };
        case.check();
        println!("equal: {} ({})", case.name, case.compared.iter().cloned().collect::<Vec<_>>().join(", "));
        assert!(case.compared.contains("fwd") && case.compared.contains("step1"), "{} compares nothing", case.name);
        run += 1;
    }
    assert!(5 <= run, "only {run} cases ran");
}

fn unsupported(json: &Value) -> Option<&'static str> {
    match () {
        () if json["recon"] == "zinb" => Some("zinb"),
        () if json["model"]["variational"] == true => Some("the variational encoder"),
        () if json["plan"]["adv_loss"] == "focal" => Some("the focal loss"),
        () if !json["mixup_lambda"].is_null() => Some("mixup"),
        () => None,
    }
}

impl Case {
    fn check(&mut self) {
        let plan = self.plan();
        let input = self.input();
        self.check_forward(&plan, &input);
        self.check_eval(&plan, &input);
        self.check_steps(&plan, &input);
    }

    fn check_forward(&mut self, plan: &Plan, input: &Input) {
        let learner = self.learner(plan);
        let latent = learner.network.latent(input, Mode::Train);
        let output = learner.network.decode(&latent.after(), &input.cells.library, Mode::Train);
        self.equal("fwd/z_basal", &latent.basal);
        self.equal("fwd/z_pert", &latent.perturbation);
        self.equal("fwd/z_covs", &latent.covariates);
        self.equal("fwd/z", &latent.after());
        match &output {
            Output::NegativeBinomial { mean, theta } => {
                self.equal("fwd/px_mu", mean);
                self.equal("fwd/px_theta", theta);
            }
            Output::Normal { mean, variance } => {
                self.equal("fwd/px_loc", mean);
                self.equal("fwd/px_scale", &variance.sqrt());
            }
        }
        let recon = reconstruction(&output, &input.cells);
        self.equal("loss/recon", &recon);
        // A pretraining step has no adversarial term, and its golden file no gradients of one.
        if self.arrays.keys().any(|key| key.starts_with("grad_ae/")) {
            let judged = learner.adversaries.judge(&latent.basal, input, false);
            let total = recon - judged.loss * plan.adversary.reg_adv;
            self.equal("loss/ae_total", &total);
            self.gradients("grad_ae", &total, learner.network.parameters.learned());
            let judged = learner.adversaries.judge(&latent.basal, input, true);
            let total = judged.loss + judged.penalty.expect("penalties were asked for") * plan.adversary.pen_adv;
            self.equal("loss/adv_total", &total);
            self.gradients("grad_adv", &total, learner.adversaries.parameters.learned());
        }
    }

    fn check_eval(&mut self, plan: &Plan, input: &Input) {
        let learner = self.learner(plan);
        let latent = learner.network.latent(input, Mode::Eval);
        let output = learner.network.decode(&latent.after(), &input.cells.library, Mode::Eval);
        if self.arrays.contains_key("eval/px_z") {
            self.equal("eval/z_basal", &latent.basal);
            self.equal("eval/px_z", output.mean());
        }
    }

    fn check_steps(&mut self, plan: &Plan, input: &Input) {
        let mut learner = self.learner(plan);
        for step in 0..5_u64 {
            let losses = learner.step(input, step, Schedule::at(plan, 0));
            let expected = self.arrays["steplog/recon_loss"].double_value(&[i64::try_from(step).expect("five steps")]);
            let recon = losses.recon.expect("the decoder runs on every batch").double_value(&[]);
            if self.kind == Kind::Double {
                assert!(
                    (recon - expected).abs() <= self.tolerance * expected.abs(),
                    "{}: loss of step {step}: {recon}, not {expected}",
                    self.name
                );
            }
            let prefix = format!("step{}", step + 1);
            let wanted = if self.kind == Kind::Double {
                self.arrays.keys().any(|key| key.starts_with(&format!("{prefix}/")))
            } else {
                step == 0
            };
            if wanted {
                let all: Vec<(String, Tensor)> = learner
                    .network
                    .parameters
                    .all()
                    .chain(learner.adversaries.parameters.all())
                    .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                    .collect();
                for (name, tensor) in all {
                    // In float32 the gradient of a bias before batch norm is rounding noise that Adam turns into whole steps.
                    if self.kind == Kind::Float && !name.contains("running") {
                        continue;
                    }
                    self.equal(&format!("{prefix}/{name}"), &tensor);
                }
            }
        }
    }

    fn gradients(&mut self, group: &str, total: &Tensor, parameters: &BTreeMap<String, Tensor>) {
        let names: Vec<&String> = parameters.keys().collect();
        let tensors: Vec<&Tensor> = parameters.values().collect();
        let gradients = Tensor::run_backward(&[total], &tensors, true, false);
        for (name, gradient) in names.into_iter().zip(gradients) {
            let key = format!("{group}/{name}");
            let Some(expected) = self.arrays.get(&key) else {
                assert!(!gradient.defined(), "{}: {key} should have no gradient", self.name);
                continue;
            };
            // The gradient of a bias before batch norm is zero in theory, and rounding noise in practice.
            let noise = if self.kind == Kind::Double { 1e-9 } else { 1e-4 };
            if noise < expected.abs().max().double_value(&[]) {
                self.equal(&key, &gradient);
            }
        }
    }

    fn equal(&mut self, key: &str, found: &Tensor) {
        let expected = self
            .arrays
            .get(key)
            .unwrap_or_else(|| panic!("{}: no golden `{key}`", self.name))
            .to_kind(Kind::Double)
            .view([-1]);
        let found = found.detach().to_kind(Kind::Double).view([-1]);
        let difference = (&found - &expected).abs().max().double_value(&[]);
        let scale = expected.abs().max().double_value(&[]);
        let relative = if 1e-12 < scale { difference / scale } else { difference };
        assert!(relative <= self.tolerance, "{}: `{key}` is off by {relative:e}", self.name);
        self.compared.insert(key.split('/').next().unwrap_or_default().to_owned());
    }

    fn learner(&self, plan: &Plan) -> Learner {
        let genes = u32::try_from(self.arrays["batch/X"].size()[1]).expect("few genes");
        let mut learner = Learner::new(plan, genes, &self.vocabulary(), self.kind, Device::Cpu);
        let initial: BTreeMap<String, Tensor> = self
            .arrays
            .iter()
            .filter_map(|(key, tensor)| Some((key.strip_prefix("init/")?.to_owned(), tensor.shallow_clone())))
            .collect();
        learner.network.parameters.restore(&initial, Path::new("golden")).expect("the original's names and shapes");
        learner.adversaries.parameters.restore(&initial, Path::new("golden")).expect("the original's names and shapes");
        learner
    }

    fn vocabulary(&self) -> Vocabulary {
        let mut perturbations: Vec<(u64, String)> =
            object(&self.json["pert_encoder"]).map(|(name, code)| (code.as_u64().expect("a code"), name)).collect();
        perturbations.sort();
        let classes = self.json["classes"].as_array().expect("classes");
        // A weight is n / n_class - 1 and the cells are 64.
        let weights = self.json["drug_weights"].as_array().expect("weights");
        let cells = weights.iter().map(|weight| (64.0 / (weight.as_f64().expect("a weight") + 1.0)).round());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of 64 cells")]
        let cells = cells.map(|cells| cells as u64).collect();
        let covariates = ["cell_type", "batch"].map(|name| {
            let mut values: Vec<(u64, String)> = object(&self.json["covars_encoder"][name])
                .map(|(value, code)| (code.as_u64().expect("a code"), value))
                .collect();
            values.sort();
            Covariate { name: name.into(), values: values.into_iter().map(|(_, value)| value).collect() }
        });
        Vocabulary {
            perturbations: perturbations.into_iter().map(|(_, name)| name).collect(),
            combinations: classes.iter().map(|class| class.as_str().expect("a name").to_owned()).collect(),
            combination_cells: cells,
            covariates: covariates.into(),
            batch: Some("batch".into()),
            trained: Vec::new(),
        }
    }

    fn input(&self) -> Input {
        let codes = |key: &str| self.arrays[&format!("batch/{key}")].to_kind(Kind::Int64);
        Input {
            cells: Cells::from_dense(&self.arrays["batch/X"].to_kind(self.kind)),
            perturbations: codes("perts"),
            doses: self.arrays["batch/perts_doses"].to_kind(self.kind),
            covariates: ["cell_type", "batch"].map(|key| codes(key).view([-1])).into(),
            combinations: codes("condition").view([-1]),
        }
    }

    fn plan(&self) -> Plan {
        let (model, plan) = (&self.json["model"], &self.json["plan"]);
        let count = |value: &Value, default: u32| {
            value.as_u64().map_or(default, |value| u32::try_from(value).expect("a small number"))
        };
        let number = |value: &Value, default: f64| value.as_f64().unwrap_or(default);
        let norm = |batch: &Value, layer: &Value, batch_default: bool| match (
            batch.as_bool().unwrap_or(batch_default),
            layer.as_bool().unwrap_or(false),
        ) {
            (true, true) => Norm::BatchThenLayer,
            (true, false) => Norm::Batch,
            (false, true) => Norm::Layer,
            (false, false) => Norm::None,
        };
        let mut settings = Settings::default();
        let m = &mut settings.model;
        m.n_latent = count(&model["n_latent"], 128);
        m.recon_loss = if self.json["recon"] == "gauss" { ReconLoss::Gauss } else { ReconLoss::Nb };
        m.doser_type = match model["doser_type"].as_str() {
            Some("sigm") => Doser::Sigm,
            Some("logsigm") => Doser::LogSigm,
            _ => Doser::Linear,
        };
        m.n_hidden_encoder = count(&model["n_hidden_encoder"], 256);
        m.n_layers_encoder = count(&model["n_layers_encoder"], 3);
        m.norm_encoder = norm(&model["use_batch_norm_encoder"], &model["use_layer_norm_encoder"], true);
        m.dropout_rate_encoder = number(&model["dropout_rate_encoder"], 0.0);
        m.dropout_rate_decoder = number(&model["dropout_rate_decoder"], 0.0);
        m.n_hidden_decoder = count(&model["n_hidden_decoder"], 256);
        m.n_layers_decoder = count(&model["n_layers_decoder"], 3);
        m.norm_decoder = norm(&model["use_batch_norm_decoder"], &model["use_layer_norm_decoder"], true);
        let a = &mut settings.adversary;
        a.n_hidden_adv = count(&plan["n_hidden_adv"], 64);
        a.n_layers_adv = count(&plan["n_layers_adv"], 3);
        a.norm_adv = norm(&plan["use_batch_norm_adv"], &plan["use_layer_norm_adv"], true);
        a.dropout_rate_adv = number(&plan["dropout_rate_adv"], 0.1);
        a.reg_adv = number(&plan["reg_adv"], 1.0);
        a.pen_adv = number(&plan["pen_adv"], 1.0);
        a.adv_steps = match plan.get("adv_steps") {
            None => 3,
            Some(steps) => count(steps, 0),
        };
        a.adv_lr = number(&plan["adv_lr"], 3e-4);
        a.adv_wd = number(&plan["adv_wd"], 4e-7);
        let t = &mut settings.train;
        t.lr = number(&plan["lr"], 5e-4);
        t.wd = number(&plan["wd"], 1e-6);
        t.doser_lr = number(&plan["doser_lr"], 3e-4);
        t.doser_wd = number(&plan["doser_wd"], 4e-7);
        t.n_epochs_pretrain_ae = count(&plan["n_epochs_pretrain_ae"], 0);
        t.n_epochs_adv_warmup = count(&plan["n_epochs_adv_warmup"], 0);
        t.step_size_lr = 0;
        t.gradient_clip_value =
            if plan["do_clip_grad"] == true { number(&plan["gradient_clip_value"], 3.0) } else { 0.0 };
        t.decoder_on_every_batch = true;
        settings.check(ValueKind::Counts).expect("the original's settings are good ones")
    }
}

fn object(value: &Value) -> impl Iterator<Item = (String, Value)> {
    value.as_object().cloned().unwrap_or_default().into_iter()
}
