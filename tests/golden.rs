//! The network computes what the original computes: outputs, losses, gradients of both sides, metrics, and parameters after
//! steps; schedules and the codes of labels are the original's (`support/golden_setup.rs`).
//!
//! The numbers were made with cpa-tools 0.8.8 (`tests/golden/README.md`); `PERTURBINE_GOLDEN` names another folder of
//! cases. What a case asks for is read from its entry in `cases.json`; an option that is not known fails by name.
#![allow(clippy::print_stdout, reason = "a golden test names its cases")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

#[path = "support/golden_setup.rs"]
mod golden_setup;
#[path = "support/original.rs"]
mod original;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use schemas::{config::TrainingPlan, vocabulary::Vocabulary};
use stages::model::{
    adversary::AdversaryResults,
    decoder::DecoderOutput,
    draws::StepDraws,
    fused::Fused,
    input::{Cells, Input},
    layers::Mode,
    loss_term::LossTerm,
    losses::reconstruction,
    mixing::Mixup,
    moments::GroupMoments,
    neighbours::purities,
    network::Latent,
    plain::Plain,
    schedule::{Clock, Schedule},
    step::{Engine, Learner},
};
use tch::{Device, Kind, Tensor};

struct Case {
    name: String,
    arrays: BTreeMap<String, Tensor>,
    plan: TrainingPlan,
    vocabulary: Vocabulary,
    tolerance: f64,
    kind: Kind,
    compared: BTreeSet<String>,
}

#[test]
fn every_case_of_the_original_is_equalled() {
    let folder = original::folder();
    let cases = original::json(&folder.join("cases.json"));
    // As the numbers were made: how work is cut between threads shows in the last bits.
    tch::set_num_threads(1);
    for (name, json) in cases.as_object().expect("cases by name") {
        println!("{name}");
        let path = folder.join(format!("{name}.npz"));
        let arrays = Tensor::read_npz(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let double = json["dtype"].as_str().is_some_and(|dtype| dtype.contains("float64"));
        let (kind, tolerance) = if double { (Kind::Double, 1e-9) } else { (Kind::Float, 2e-6) };
        let mut case = Case {
            name: name.clone(),
            plan: original::plan(json["recon"].as_str().expect("recon"), &json["model"], &json["plan"]),
            vocabulary: original::vocabulary(json),
            arrays: arrays.into_iter().collect(),
            tolerance,
            kind,
            compared: BTreeSet::new(),
        };
        case.check();
        println!("  equal: {}", case.compared.iter().cloned().collect::<Vec<_>>().join(", "));
    }
}

impl Case {
    fn check(&mut self) {
        self.check_forward();
        self.check_eval();
        self.check_steps(&Plain);
        self.check_steps(&Fused::default());
        assert!(
            ["fwd", "loss", "step1"].iter().all(|group| self.compared.contains(*group)),
            "{} compares nothing but {:?}",
            self.name,
            self.compared
        );
    }

    fn check_forward(&mut self) {
        let learner = self.learner();
        let draws = self.draws("eps/forward_z", None);
        let plain = self.input();
        let mixed = draws.mixup.as_ref().map(|mixup| mixup.of_input(&plain));
        let input = mixed.as_ref().unwrap_or(&plain);
        let latent = learner.network.latent(input, Mode::Train, &draws);
        let output = learner.network.decode(&latent.after(), None, &input.cells.library, Mode::Train);
        self.check_latent("fwd", &latent);
        self.equal_if_there("fwd/X_in", &input.cells.dense());
        // The golden term of the perturbations is the one before mixing.
        self.equal("fwd/z_pert", &learner.network.perturbation_latent(&input.perturbations, &input.doses));
        if let Some((mean, deviation)) = &latent.basal.drawn_from {
            self.equal("fwd/qz_loc", mean);
            self.equal("fwd/qz_scale", deviation);
        }
        match &output {
            DecoderOutput::NegativeBinomial { mean, theta } => {
                self.equal("fwd/px_mu", mean);
                self.equal("fwd/px_theta", theta);
            }
            DecoderOutput::ZeroInflated { mean, theta, logits, .. } => {
                self.equal("fwd/px_mu", mean);
                self.equal("fwd/px_theta", theta);
                self.equal("fwd/px_zi_logits", logits);
            }
            DecoderOutput::Normal { mean, variance } => {
                self.equal("fwd/px_loc", mean);
                self.equal("fwd/px_scale", &variance.sqrt());
            }
        }
        if !matches!(output, DecoderOutput::Normal { .. }) {
            self.equal("fwd/library", &input.cells.library.log());
        }
        let recon = reconstruction(&output, &input.cells);
        self.equal("loss/recon", &recon);
        if let Some(log_prob) = self.arrays.get("fwd/log_prob") {
            let over_cells = log_prob.to_kind(Kind::Double).sum_dim_intlist([1_i64].as_slice(), false, Kind::Double);
            self.close("fwd/log_prob", &recon, &-over_cells.mean(Kind::Double));
        }
        let divergence = latent.basal.divergence().unwrap_or_else(|| recon.zeros_like());
        self.equal("loss/kl", &divergence);
        let schedule = Schedule::at(&self.plan, Clock::default());
        self.equal("loss/kl_weight", &Tensor::from(schedule.divergence_weight));
        self.equal("loss/adv_lambda", &Tensor::from(schedule.adversary_weight));
        self.check_metrics(&plain, input, &latent, &output);

        for (name, logits) in self.learner().adversaries.logits(&latent.basal.latent) {
            self.equal_if_there(&format!("adv_logits/{name}"), &logits);
        }
        let judged = learner.adversaries.classify(&latent.basal.latent, input, draws.mixup.as_ref(), false);
        self.check_verdict("aestep", &judged);
        let total = recon + divergence * schedule.divergence_weight - judged.loss * schedule.adversary_weight;
        self.equal("loss/ae_total", &total);
        self.gradients("grad_ae", &total, learner.network.parameters.learned());
        let basal = latent.basal.latent.detach();
        let judged = learner.adversaries.classify(&basal, input, draws.mixup.as_ref(), true);
        self.check_verdict("advstep", &judged);
        let penalty = judged.penalty.expect("penalties were asked for");
        self.equal("advstep/penalty_adv", &penalty);
        let total = judged.loss + &penalty * self.plan.adversary.pen_adv;
        self.equal("loss/adv_total", &total);
        self.gradients("grad_adv", &total, learner.adversaries.parameters.learned());
        self.gradients("grad_penalty", &penalty, learner.adversaries.parameters.learned());
    }

    fn check_latent(&mut self, group: &str, latent: &Latent) {
        self.equal_if_there(&format!("{group}/z_basal"), &latent.basal.latent);
        self.equal_if_there(&format!("{group}/z"), &latent.after());
        self.equal_if_there(&format!("{group}/z_corrected"), &latent.corrected());
        self.equal_if_there(&format!("{group}/z_no_pert"), &latent.without_perturbation());
        self.equal_if_there(&format!("{group}/z_no_pert_corrected"), &latent.without_perturbation_and_batch());
        let covariates = latent.without_perturbation() - &latent.basal.latent;
        self.equal_if_there(&format!("{group}/z_covs"), &covariates);
    }

    fn check_verdict(&mut self, group: &str, verdict: &AdversaryResults) {
        self.equal(&format!("{group}/adv_loss"), &verdict.loss);
        for (term, value) in &verdict.parts {
            // Accuracies were kept in single precision, and so was what is made of them.
            let tolerance = self.tolerance;
            self.tolerance = tolerance.max(if matches!(term, LossTerm::Adversary(_)) { 0.0 } else { 1e-6 });
            self.equal(&format!("{group}/{term}"), value);
            self.tolerance = tolerance;
        }
    }

    fn check_metrics(&mut self, plain: &Input, input: &Input, latent: &Latent, output: &DecoderOutput) {
        if self.arrays.contains_key("metric/r2") {
            let rows = self.codes("CPA_cat");
            let groups = rows.max().int64_value(&[]) + 1;
            let normal = matches!(output, DecoderOutput::Normal { .. });
            let mut moments = GroupMoments::new(groups, input.cells.shape[1], normal, Device::Cpu);
            moments.add(&rows, &input.cells, output);
            let r2 = moments.r2_of_the_original();
            let found = [r2.mean, r2.variance].map(|score| score.expect("there are groups"));
            self.equal("metric/r2", &Tensor::from_slice(&found));
        }
        if self.arrays.contains_key("metric/disnt") {
            let several = plain.covariates.iter().zip(&self.vocabulary.covariates);
            let several = several.filter(|(_, covariate)| covariate.values.len() > 1).map(|(codes, _)| codes);
            let labels: Vec<Vec<i64>> = std::iter::once(&plain.combinations)
                .chain(several)
                .map(|codes| Vec::try_from(codes).expect("numbers"))
                .collect();
            let labels: Vec<&[i64]> = labels.iter().map(Vec::as_slice).collect();
            let sum = |z: &Tensor| purities(z, &labels).expect("there are cells").iter().sum::<f64>();
            let found = [sum(&latent.basal.latent.detach()), sum(&latent.after().detach())];
            self.equal("metric/disnt", &Tensor::from_slice(&found));
        }
    }

    fn check_eval(&mut self) {
        if !self.arrays.keys().any(|key| key.starts_with("eval/")) {
            return;
        }
        let (learner, input) = (self.learner(), self.input());
        let noise = self.arrays.get("eps/eval_z").map(Tensor::shallow_clone);
        let latent = learner.network.latent(&input, Mode::Eval, &StepDraws { noise, ..StepDraws::default() });
        self.check_latent("eval", &latent);
        for (name, z) in [
            ("z", latent.after()),
            ("z_basal", latent.basal.latent.shallow_clone()),
            ("z_corrected", latent.corrected()),
            ("z_no_pert", latent.without_perturbation()),
            ("z_no_pert_corrected", latent.without_perturbation_and_batch()),
        ] {
            let output = learner.network.decode(&z, None, &input.cells.library, Mode::Eval);
            self.equal_if_there(&format!("eval/px_{name}"), &output.mean());
        }
    }

    /// By one of the engines; where the fused one can't compute a case, it is the plain one once more.
    fn check_steps(&mut self, engine: &dyn Engine) {
        let (mut learner, input) = (self.learner(), self.input());
        let mut norms = Vec::new();
        for step in 0..5_u64 {
            let row = i64::try_from(step).expect("five steps");
            let draws = self.draws("eps/steps_z", Some(row));
            let schedule = Schedule::at(&self.plan, Clock { batch: step, step, ..Clock::default() });
            let losses = engine.step(&mut learner, &input, &draws, schedule);
            norms.extend(
                losses
                    .values
                    .iter()
                    .filter(|(term, _)| matches!(term, LossTerm::Norm(_)))
                    .map(|(_, n)| n.to_kind(Kind::Double)),
            );
            for (ours, theirs) in [(LossTerm::Reconstruction, "recon_loss"), (LossTerm::Divergence, "KL")] {
                if self.kind == Kind::Double
                    && let Some(found) = losses.get(&ours)
                {
                    let expected = self.arrays[&format!("steplog/{theirs}")].get(row);
                    self.close(&format!("steplog/{theirs} of step {step}"), found, &expected);
                }
            }
            let prefix = format!("step{}", step + 1);
            if !self.arrays.keys().any(|key| key.starts_with(&format!("{prefix}/"))) {
                continue;
            }
            let all: Vec<(String, Tensor)> = learner
                .network
                .parameters
                .all()
                .chain(learner.adversaries.parameters.all())
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect();
            for (name, tensor) in all {
                // In float32 the gradient of a bias before batch norm is rounding noise that Adam turns into whole steps.
                if self.kind == Kind::Double || name.contains("running") {
                    self.equal(&format!("{prefix}/{name}"), &tensor);
                }
            }
        }
        if self.arrays.contains_key("steplog/clip_norms") {
            self.equal("steplog/clip_norms", &Tensor::stack(&norms, 0));
        }
    }

    fn gradients(&mut self, group: &str, total: &Tensor, parameters: &BTreeMap<String, Tensor>) {
        // Not every case has gradients; one of pretraining has none of the adversarial terms.
        if !self.arrays.keys().any(|key| key.starts_with(&format!("{group}/"))) {
            return;
        }
        let names: Vec<&String> = parameters.keys().collect();
        let tensors: Vec<&Tensor> = parameters.values().collect();
        let gradients = Tensor::run_backward(&[total], &tensors, true, false);
        for (name, gradient) in names.into_iter().zip(gradients) {
            let key = format!("{group}/{name}");
            let Some(expected) = self.arrays.get(&key) else {
                let nothing = !gradient.defined() || gradient.abs().max().double_value(&[]) == 0.0;
                assert!(nothing, "{}: {key} should have no gradient", self.name);
                continue;
            };
            // The gradient of a bias before batch norm is zero in theory, and rounding noise in practice.
            let noise = if self.kind == Kind::Double { 1e-9 } else { 1e-4 };
            if noise < expected.abs().max().double_value(&[]) {
                self.equal(&key, &gradient);
            } else {
                assert!(gradient.abs().max().double_value(&[]) <= noise, "{}: {key} should be noise", self.name);
            }
        }
    }

    fn equal_if_there(&mut self, key: &str, found: &Tensor) {
        if self.arrays.contains_key(key) {
            self.equal(key, found);
        }
    }

    fn equal(&mut self, key: &str, found: &Tensor) {
        let expected = self.arrays.get(key).unwrap_or_else(|| panic!("{}: no golden `{key}`", self.name));
        self.close(key, found, expected);
        self.compared.insert(key.split('/').next().unwrap_or_default().to_owned());
    }

    fn close(&self, key: &str, found: &Tensor, expected: &Tensor) {
        let flat = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double).reshape([-1]);
        let (found, expected) = (flat(found), flat(expected));
        assert_eq!(found.size(), expected.size(), "{}: the shape of `{key}`", self.name);
        let difference = (&found - &expected).abs().max().double_value(&[]);
        let scale = expected.abs().max().double_value(&[]);
        let relative = if scale > 1e-12 { difference / scale } else { difference };
        assert!(relative <= self.tolerance, "{}: `{key}` is off by {relative:e}", self.name);
    }

    fn learner(&self) -> Learner {
        let genes = u32::try_from(self.arrays["batch/X"].size()[1]).expect("few genes");
        let mut learner = Learner::new(&self.plan, genes, &self.vocabulary, self.kind, Device::Cpu);
        let initial: BTreeMap<String, Tensor> = self
            .arrays
            .iter()
            .filter_map(|(key, tensor)| Some((key.strip_prefix("init/")?.to_owned(), tensor.shallow_clone())))
            .collect();
        learner.network.parameters.restore(&initial, Path::new("golden")).expect("the original's names and shapes");
        learner.adversaries.parameters.restore(&initial, Path::new("golden")).expect("the original's names and shapes");
        learner
    }

    fn codes(&self, key: &str) -> Tensor {
        self.arrays[&format!("batch/{key}")].to_kind(Kind::Int64).view([-1])
    }

    fn input(&self) -> Input {
        let covariates = self.vocabulary.covariates.iter().map(|covariate| self.codes(&covariate.name));
        Input {
            cells: Cells::from_dense(&self.arrays["batch/X"].to_kind(self.kind)),
            perturbations: self.arrays["batch/perts"].to_kind(Kind::Int64),
            doses: self.arrays["batch/perts_doses"].to_kind(self.kind),
            covariates: covariates.collect(),
            combinations: self.codes("condition"),
            offset: None,
            sources: None,
        }
    }

    /// The permutation, and the noise of this name (in it, of this step), where the case has them.
    fn draws(&self, noise: &str, step: Option<i64>) -> StepDraws {
        let mixup = self.arrays.get("mixup/perm").map(|perm| Mixup {
            partners: Vec::try_from(perm.to_kind(Kind::Int64)).expect("numbers"),
            share: self.arrays["mixup/lambda"].double_value(&[]),
        });
        let noise = self.arrays.get(noise).map(|noise| step.map_or_else(|| noise.shallow_clone(), |at| noise.get(at)));
        StepDraws { mixup, noise: noise.map(|noise| noise.to_kind(self.kind)), ..StepDraws::default() }
    }
}
