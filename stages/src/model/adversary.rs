//! Classifiers that try to read combination and covariates from the basal latent.

use schemas::config::AdversarySettings;
use tch::{Device, Kind, Tensor};

use super::{
    input::Input,
    layers::{HiddenLayers, HiddenShape, Linear, Mode},
    losses::{accuracy, cross_entropy},
    parameters::Parameters,
};
use crate::vocabulary::Vocabulary;

/// All adversaries of a model.
#[derive(Debug)]
pub struct Adversaries {
    /// Everything that is saved.
    pub parameters: Parameters,
    /// Guesses the combination, with the weight of each class; none where there is one combination only.
    combinations: Option<(Classifier, Tensor)>,
    /// Guess the covariates that have more than one value, by their place among the covariates.
    covariates: Vec<(usize, Classifier)>,
}

#[derive(Debug)]
struct Classifier {
    hidden: HiddenLayers,
    to_classes: Linear,
}

impl Classifier {
    fn new(parameters: &mut Parameters, name: &str, latent: i64, classes: i64, settings: &AdversarySettings) -> Self {
        let shape = HiddenShape {
            layers: settings.n_layers_adv,
            width: settings.n_hidden_adv,
            norm: settings.norm_adv,
            dropout: settings.dropout_rate_adv,
        };
        Self {
            hidden: HiddenLayers::new(parameters, &format!("{name}.classifier.0"), latent, shape),
            to_classes: Linear::new(
                parameters,
                &format!("{name}.classifier.1"),
                i64::from(settings.n_hidden_adv),
                classes,
            ),
        }
    }

    fn logits(&self, basal: &Tensor) -> Tensor {
        self.to_classes.forward(&self.hidden.forward(basal, Mode::Train))
    }
}

/// What the adversaries say of a batch, each a scalar.
#[derive(Debug)]
pub struct Verdict {
    /// Sum of the cross-entropies.
    pub loss: Tensor,
    /// Sum of the gradient penalties; none where they were not asked for.
    pub penalty: Option<Tensor>,
    /// How often the combination was guessed.
    pub accuracy: Tensor,
}

impl Adversaries {
    /// Adversaries with fresh parameters; seed libtorch's generator before.
    #[must_use]
    pub fn new(settings: &AdversarySettings, latent: u32, vocabulary: &Vocabulary, kind: Kind, device: Device) -> Self {
        let mut parameters = Parameters::new(kind, device);
        let latent = i64::from(latent);
        let classes = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let combinations = (1 < vocabulary.combinations.len()).then(|| {
            let classifier = Classifier::new(
                &mut parameters,
                "perturbation_classifier",
                latent,
                classes(vocabulary.combinations.len()),
                settings,
            );
            (
                classifier,
                Tensor::from_slice(&class_weights(&vocabulary.combination_cells)).to_kind(kind).to_device(device),
            )
        });
        let guessed = vocabulary.covariates.iter().enumerate().filter(|(_, covariate)| 1 < covariate.values.len());
        let covariates = guessed.map(|(at, covariate)| {
            let name = format!("covars_classifiers.{}", covariate.name);
            (at, Classifier::new(&mut parameters, &name, latent, classes(covariate.values.len()), settings))
        });
        let covariates = covariates.collect();
        Self { combinations, covariates, parameters }
    }

    /// Guesses, and with `penalised` the gradient penalties: for each classifier the mean over cells and latent of
    /// (∂ Σ logits / ∂ basal)², kept differentiable.
    #[must_use]
    pub fn judge(&self, basal: &Tensor, input: &Input, penalised: bool) -> Verdict {
        let zero = || Tensor::zeros([], (self.parameters.kind(), self.parameters.device()));
        let mut verdict = Verdict { loss: zero(), penalty: penalised.then(zero), accuracy: zero() };
        let basal = if penalised { basal.detach().set_requires_grad(true) } else { basal.shallow_clone() };
        let mut judge = |classifier: &Classifier, classes: &Tensor, weights: Option<&Tensor>| {
            let logits = classifier.logits(&basal);
            verdict.loss = &verdict.loss + cross_entropy(&logits, classes, weights);
            if let Some(penalty) = &mut verdict.penalty {
                let slope = Tensor::run_backward(&[logits.sum(logits.kind())], &[&basal], true, true).remove(0);
                *penalty = &*penalty + slope.square().mean(slope.kind());
            }
            logits
        };
        for (at, classifier) in &self.covariates {
            let _ = judge(classifier, &input.covariates[*at], None);
        }
        if let Some((classifier, weights)) = &self.combinations {
            let logits = judge(classifier, &input.combinations, Some(weights));
            verdict.accuracy = tch::no_grad(|| accuracy(&logits, &input.combinations));
        }
        verdict
    }

    /// Whether there is anything to guess.
    #[must_use]
    pub fn any(&self) -> bool {
        self.combinations.is_some() || !self.covariates.is_empty()
    }
}

/// A class weighs n / n_class − 1, in single precision as in the original.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "weights need no more bits")]
fn class_weights(cells: &[u64]) -> Vec<f32> {
    let all: u64 = cells.iter().sum();
    cells.iter().map(|cells| (all as f64 / (*cells).max(1) as f64 - 1.0) as f32).collect()
}
