//! The original's cases in the golden files, in this program's terms.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemas::{
    atlas::ValueKind,
    conditions::Covariate,
    config::{AdversaryLoss, Compat, Doser, Norm, ReconLoss, Settings, TrainingPlan},
    vocabulary::Vocabulary,
};
use serde_json::{Map, Value};

/// Where the golden files are.
pub fn folder() -> PathBuf {
    std::env::var_os("PERTURBINE_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

/// One of the files next to the cases; a folder other than ours need not have it.
pub fn beside_the_cases(name: &str) -> Option<Value> {
    let path = folder().join(name);
    if !path.exists() && std::env::var_os("PERTURBINE_GOLDEN").is_some() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(json(&path))
}

/// A file of JSON.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A case's options, taken one by one: what is left at the end is not known.
struct Options {
    of: &'static str,
    left: Map<String, Value>,
}

impl Options {
    fn new(of: &'static str, value: &Value) -> Self {
        Self { of, left: value.as_object().cloned().unwrap_or_default() }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn count<T: TryFrom<u64>>(&mut self, name: &str, default: T) -> T {
        let count = |value: Value| value.as_u64().and_then(|value| T::try_from(value).ok());
        self.take(name).map_or(default, |value| {
            count(value.clone()).unwrap_or_else(|| panic!("{}.{name} is {value}, no count", self.of))
        })
    }

    fn number(&mut self, name: &str, default: f64) -> f64 {
        self.take(name).map_or(default, |value| value.as_f64().unwrap_or_else(|| panic!("{name} is {value}")))
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        self.take(name).map_or(default, |value| value.as_bool().unwrap_or_else(|| panic!("{name} is {value}")))
    }

    fn text(&mut self, name: &str, default: &str) -> String {
        self.take(name).map_or(default.to_owned(), |value| value.as_str().unwrap_or_default().to_owned())
    }

    fn norm(&mut self, part: &str) -> Norm {
        let (batch, layer) =
            (self.flag(&format!("use_batch_norm_{part}"), true), self.flag(&format!("use_layer_norm_{part}"), false));
        match (batch, layer) {
            (true, true) => Norm::BatchThenLayer,
            (true, false) => Norm::Batch,
            (false, true) => Norm::Layer,
            (false, false) => Norm::None,
        }
    }

    fn nothing_left(self) {
        let left: Vec<&String> = self.left.keys().collect();
        assert!(left.is_empty(), "unknown {} options: {left:?}", self.of);
    }
}

/// The settings that a case's `recon`, `model` and `plan` stand for; what it does not name is the original's default.
///
/// # Panics
/// Options that are not known, by name.
pub fn plan(recon: &str, model: &Value, plan: &Value) -> TrainingPlan {
    let mut settings = Settings { compat: Compat::CpaTools088, ..Settings::default() };
    let mut o = Options::new("model", model);
    let m = &mut settings.model;
    m.recon_loss = match recon {
        "nb" => ReconLoss::Nb,
        "zinb" => ReconLoss::Zinb,
        "gauss" => ReconLoss::Gauss,
        other => panic!("unknown recon: {other}"),
    };
    m.doser_type = match o.text("doser_type", "logsigm").as_str() {
        "linear" => Doser::Linear,
        "sigm" => Doser::Sigm,
        "logsigm" => Doser::LogSigm,
        other => panic!("unknown doser_type: {other}"),
    };
    m.n_latent = o.count("n_latent", 128);
    m.variational = o.flag("variational", false);
    m.n_hidden_encoder = o.count("n_hidden_encoder", 256);
    m.n_layers_encoder = o.count("n_layers_encoder", 3);
    m.norm_encoder = o.norm("encoder");
    m.dropout_rate_encoder = o.number("dropout_rate_encoder", 0.0);
    m.n_hidden_decoder = o.count("n_hidden_decoder", 256);
    m.n_layers_decoder = o.count("n_layers_decoder", 3);
    m.norm_decoder = o.norm("decoder");
    m.dropout_rate_decoder = o.number("dropout_rate_decoder", 0.0);
    m.n_hidden_doser = o.count("n_hidden_doser", 128);
    m.n_layers_doser = o.count("n_layers_doser", 2);
    settings.seed = o.count("seed", 0);
    o.nothing_left();

    let mut o = Options::new("plan", plan);
    let a = &mut settings.adversary;
    a.n_hidden_adv = o.count("n_hidden_adv", 64);
    a.n_layers_adv = o.count("n_layers_adv", 3);
    a.norm_adv = o.norm("adv");
    a.dropout_rate_adv = o.number("dropout_rate_adv", 0.1);
    a.adv_loss = match o.text("adv_loss", "cce").as_str() {
        "cce" => AdversaryLoss::Cce,
        "focal" => AdversaryLoss::Focal,
        other => panic!("unknown adv_loss: {other}"),
    };
    a.reg_adv = o.number("reg_adv", 1.0);
    a.pen_adv = o.number("pen_adv", 1.0);
    // Not named means 3, named as null means every batch.
    a.adv_steps = if plan.get("adv_steps").is_some() { o.count("adv_steps", 0) } else { 3 };
    let _ = o.left.remove("adv_steps");
    a.adv_lr = o.number("adv_lr", 3e-4);
    a.adv_wd = o.number("adv_wd", 4e-7);
    let t = &mut settings.train;
    t.lr = o.number("lr", 5e-4);
    t.wd = o.number("wd", 1e-6);
    t.doser_lr = o.number("doser_lr", 3e-4);
    t.doser_wd = o.number("doser_wd", 4e-7);
    t.n_epochs_pretrain_ae = o.count("n_epochs_pretrain_ae", 0);
    t.n_steps_pretrain_ae = o.count("n_steps_pretrain_ae", 0);
    t.n_epochs_adv_warmup = o.count("n_epochs_adv_warmup", 0);
    t.n_steps_adv_warmup = o.count("n_steps_adv_warmup", 0);
    t.n_epochs_kl_warmup = o.count("n_epochs_kl_warmup", 0);
    t.n_steps_kl_warmup = o.count("n_steps_kl_warmup", 0);
    t.mixup_alpha = o.number("mixup_alpha", 0.0);
    t.n_epochs_mixup_warmup = o.count("n_epochs_mixup_warmup", 0);
    t.step_size_lr = o.count("step_size_lr", 45);
    let (clips, value) = (o.flag("do_clip_grad", false), o.number("gradient_clip_value", 3.0));
    t.gradient_clip_value = if clips { value } else { 0.0 };
    // How often progress is printed is nobody's business here.
    let _ = o.take("n_epochs_verbose");
    o.nothing_left();
    settings.check(ValueKind::Counts).expect("the original's settings are good ones")
}

/// The vocabulary that `pert_encoder`, `covars_encoder`, `classes` and `drug_weights` stand for.
pub fn vocabulary(json: &Value) -> Vocabulary {
    let in_order = |codes: &Value| {
        let codes = codes.as_object().expect("names and codes").iter();
        let mut codes: Vec<(u64, String)> =
            codes.map(|(name, code)| (code.as_u64().expect("a code"), name.clone())).collect();
        codes.sort();
        codes.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
    };
    let classes = json["classes"].as_array().expect("classes").iter();
    // A weight is n / n_class - 1 and the cells are 64.
    let weights = json["drug_weights"].as_array().expect("weights").iter();
    let cells = weights.map(|weight| (64.0 / (weight.as_f64().expect("a weight") + 1.0)).round());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of 64 cells")]
    let cells = cells.map(|cells| cells as u64).collect();
    let covariates: BTreeMap<String, Value> =
        serde_json::from_value(json["covars_encoder"].clone()).expect("covariates by name");
    let batch = covariates.contains_key("batch").then(|| "batch".to_owned());
    let last = covariates.get_key_value("batch");
    let covariates = covariates.iter().filter(|(name, _)| *name != "batch").chain(last);
    Vocabulary {
        perturbations: in_order(&json["pert_encoder"]),
        combinations: classes.map(|class| class.as_str().expect("a name").to_owned()).collect(),
        combination_cells: cells,
        covariates: covariates.map(|(name, codes)| Covariate { name: name.clone(), values: in_order(codes) }).collect(),
        batch,
        doses_as_written: true,
        ..Vocabulary::default()
    }
}
