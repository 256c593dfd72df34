//! Classifiers that predict combination and covariates from the basal latent.

use schemas::{
    config::{AdversaryLoss, AdversarySettings, MatrixPrecision, Settings},
    numbers::to_i64,
    vocabulary::Vocabulary,
};
use tch::{Device, Kind, Tensor};
use torch::parameters::Parameters;

use super::{
    input::Input,
    layers::{HiddenLayers, HiddenShape, Linear, Mode},
    loss_term::LossTerm,
    losses::{accuracy, guess_loss, macro_accuracy},
    mixing::Mixup,
};

/// All adversaries of a model.
#[derive(Debug)]
pub struct Adversaries {
    /// All saved tensors.
    pub parameters: Parameters,
    /// Predicts the combination, with the weight of each class; `None` if there is only one combination.
    combinations: Option<(Classifier, Tensor)>,
    /// Predict the covariates that have more than one value.
    covariates: Vec<CovariateClassifier>,
    pub(super) loss: AdversaryLoss,
    /// Factor of a batch's combination loss when a step has several batches; a scalar.
    pub(super) emphasis: Option<Tensor>,
    /// Whether a mixed cell's second covariate value is ignored, as in the original.
    pub(super) first_values_only: bool,
}

#[derive(Debug)]
struct CovariateClassifier {
    /// Index of the covariate.
    at: usize,
    name: String,
    classifier: Classifier,
}

#[derive(Debug)]
pub(super) struct Classifier {
    pub(super) hidden: HiddenLayers,
    pub(super) to_classes: Linear,
}

impl Classifier {
    fn new(parameters: &mut Parameters, name: &str, latent: i64, classes: i64, settings: &AdversarySettings) -> Self {
        let shape = HiddenShape {
            layers: settings.n_layers_adv,
            width: settings.n_hidden_adv,
            norm: settings.norm_adv,
            dropout: settings.dropout_rate_adv,
            sparse_input: false,
            precision: MatrixPrecision::Float32,
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

/// A classifier and its target.
pub(super) struct ClassifierTask<'a> {
    pub(super) name: &'a str,
    pub(super) classifier: &'a Classifier,
    /// Index of the covariate; `Err`: the combination, with the weight of each class.
    pub(super) guessed: Result<usize, &'a Tensor>,
}

/// The adversaries' results for a batch, each a scalar.
#[derive(Debug)]
pub struct AdversaryResults {
    /// Sum of the losses.
    pub loss: Tensor,
    /// Sum of the gradient penalties; `None` if they were not requested.
    pub penalty: Option<Tensor>,
    /// Loss, accuracy and penalty of each classifier, detached.
    pub parts: Vec<(LossTerm, Tensor)>,
}

impl Adversaries {
    /// Adversaries with fresh parameters; seed libtorch's generator first.
    #[must_use]
    pub fn new(settings: &Settings, vocabulary: &Vocabulary, kind: Kind, device: Device) -> Self {
        let mut parameters = Parameters::new(kind, device);
        let latent = i64::from(settings.model.n_latent);
        let mut classifier = |name: &str, classes: usize| {
            let classes = to_i64(classes);
            Classifier::new(&mut parameters, name, latent, classes, &settings.adversary)
        };
        // If their loss has no weight in the autoencoder's loss, training them has no effect; the original trains
        // them anyway.
        let has_effect = settings.adversary.reg_adv > 0.0 || settings.compat.is_original();
        let combinations = (has_effect && vocabulary.combinations.len() > 1).then(|| {
            let classifier = classifier("perturbation_classifier", vocabulary.combinations.len());
            let weights = Tensor::from_slice(&class_weights(&vocabulary.combination_cells));
            (classifier, weights.to_kind(kind).to_device(device))
        });
        let guessed =
            vocabulary.covariates.iter().enumerate().filter(|(_, covariate)| has_effect && covariate.values.len() > 1);
        let covariates = guessed.map(|(at, covariate)| CovariateClassifier {
            at,
            name: covariate.name.clone(),
            classifier: classifier(&format!("covars_classifiers.{}", covariate.name), covariate.values.len()),
        });
        let covariates = covariates.collect();
        let loss = settings.adversary.adv_loss;
        let first_values_only = settings.compat.is_original();
        Self { combinations, covariates, loss, emphasis: None, first_values_only, parameters }
    }

    /// The weight of each combination, `[combinations]`.
    pub(super) fn class_weights(&self) -> Option<&Tensor> {
        self.combinations.as_ref().map(|(_, weights)| weights)
    }

    /// The logits of every classifier, by name, from basal latents.
    #[must_use]
    pub fn logits(&self, basal: &Tensor) -> Vec<(String, Tensor)> {
        let of_covariates = self.covariates.iter().map(|task| (task.name.clone(), task.classifier.logits(basal)));
        let of_combinations =
            self.combinations.iter().map(|(classifier, _)| ("perts".to_owned(), classifier.logits(basal)));
        of_covariates.chain(of_combinations).collect()
    }

    /// The classifiers: covariates in their order, the combination last.
    pub(super) fn classifiers(&self) -> impl Iterator<Item = ClassifierTask<'_>> {
        let of_covariates = self.covariates.iter().map(|CovariateClassifier { at, name, classifier }| ClassifierTask {
            name,
            classifier,
            guessed: Ok(*at),
        });
        let of_combinations = self.combinations.iter().map(|(classifier, weights)| ClassifierTask {
            name: "perts",
            classifier,
            guessed: Err(weights),
        });
        of_covariates.chain(of_combinations)
    }

    /// The loss and accuracy of a classifier's logits. For mixed cells, both labels count, weighted by their
    /// shares.
    pub(super) fn guess(
        &self,
        task: &ClassifierTask<'_>,
        logits: &Tensor,
        input: &Input,
        mixup: Option<&Mixup>,
    ) -> (Tensor, Tensor) {
        match task.guessed {
            Ok(at) => {
                let classes = &input.covariates[at];
                let guess = |classes: &Tensor| guess_loss(self.loss, logits, classes, None);
                let loss = match mixup {
                    Some(mixup) if self.first_values_only => guess(classes) * mixup.share,
                    _ => of_both(mixup, classes, guess),
                };
                let accuracy_mixup = mixup.filter(|_| !self.first_values_only);
                (loss, tch::no_grad(|| of_both(accuracy_mixup, classes, |classes| accuracy(logits, classes))))
            }
            Err(weights) => {
                let classes = &input.combinations;
                let guess = |classes: &Tensor| guess_loss(self.loss, logits, classes, Some(weights));
                let right = || of_both(mixup, classes, |classes| macro_accuracy(logits, classes));
                let loss = of_both(mixup, classes, guess);
                let loss = self.emphasis.as_ref().map_or_else(|| loss.shallow_clone(), |emphasis| &loss * emphasis);
                (loss, tch::no_grad(right))
            }
        }
    }

    /// Empty results.
    pub(super) fn verdict(&self, penalised: bool) -> AdversaryResults {
        let zero = || Tensor::zeros([], (self.parameters.kind(), self.parameters.device()));
        AdversaryResults { loss: zero(), penalty: penalised.then(zero), parts: Vec::new() }
    }

    /// Predictions from basal latents, and with `penalised` the gradient penalties: for each classifier, the mean over cells and
    /// latent of (∂ Σ logits / ∂ basal)², which stays differentiable.
    #[must_use]
    pub fn classify(&self, basal: &Tensor, input: &Input, mixup: Option<&Mixup>, penalised: bool) -> AdversaryResults {
        let mut verdict = self.verdict(penalised);
        let basal = if penalised { basal.detach().set_requires_grad(true) } else { basal.shallow_clone() };
        for task in self.classifiers() {
            let logits = task.classifier.logits(&basal);
            let (loss, right) = self.guess(&task, &logits, input, mixup);
            verdict.add(task.name, loss, right, penalised.then(|| penalty(&logits, &basal)));
        }
        verdict
    }

    /// Whether there is anything to predict.
    #[must_use]
    pub fn any(&self) -> bool {
        self.combinations.is_some() || !self.covariates.is_empty()
    }
}

impl AdversaryResults {
    pub(super) fn add(&mut self, name: &str, loss: Tensor, accuracy: Tensor, penalty: Option<Tensor>) {
        self.parts.push((LossTerm::Adversary(name.to_owned()), loss.detach()));
        self.parts.push((LossTerm::Accuracy(name.to_owned()), accuracy));
        self.loss = &self.loss + loss;
        if let (Some(sum), Some(penalty)) = (&mut self.penalty, penalty) {
            self.parts.push((LossTerm::Penalty(name.to_owned()), penalty.detach()));
            *sum = &*sum + penalty;
        }
    }
}

/// `f` of the labels of cells; for mixed cells, of both labels, weighted by their shares.
fn of_both(mixup: Option<&Mixup>, classes: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    match mixup {
        None => f(classes),
        Some(mixup) => f(classes) * mixup.share + f(&mixup.of_partners(classes)) * (1.0 - mixup.share),
    }
}

fn penalty(logits: &Tensor, basal: &Tensor) -> Tensor {
    let slope = Tensor::run_backward(&[logits.sum(logits.kind())], &[basal], true, true).remove(0);
    slope.square().mean(slope.kind())
}

/// The weight of a class is n / n_class − 1, in single precision as in the original.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "weights need no more bits")]
fn class_weights(cells: &[u64]) -> Vec<f32> {
    let all: u64 = cells.iter().sum();
    cells.iter().map(|cells| (all as f64 / (*cells).max(1) as f64 - 1.0) as f32).collect()
}
