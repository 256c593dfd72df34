//! Held-out cells against what a model says of them, condition by condition, next to the baselines.

use std::collections::{BTreeMap, HashMap};

use schemas::conditions::CONTROL;

use crate::{
    atlas::Atlas,
    evaluate::{
        Baseline, BaselineScores, Comparison, ConditionScores, Evaluation, Group as MeanProfile, Moments, Predicted,
        Profile, Scale, Scores, Target, TrainingProfiles,
        differential::{differential_genes, effect_size, top_genes},
    },
    groups::{Group, Groups},
    profiles::GroupProfiles,
    report::Scatter,
    split::Part,
};

/// Genes whose change is looked at on their own.
const TOP_GENES: usize = 20;
/// Conditions that get a picture, largest effects first.
const MOST_SCATTERS: usize = 6;
/// Genes that a picture names.
const NAMED_GENES: usize = 10;

/// How a model's output is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The real controls' mean plus the predicted change: what the decoder gets wrong in control and condition alike
    /// cancels out.
    #[default]
    Anchored,
    /// As it comes.
    Raw,
}

/// What a model says of a group: profiles predicted from the controls of the first half.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelProfiles {
    /// Under the group's condition.
    pub condition: Vec<f64>,
    /// Their variances between cells.
    pub variance: Vec<f64>,
    /// Under control.
    pub control: Vec<f64>,
}

/// Everything that an evaluation shows.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The numbers.
    pub evaluation: Evaluation,
    /// The pictures.
    pub scatters: Vec<Scatter>,
}

/// Judges every group for which there are predictions.
#[must_use]
pub fn judge(
    atlas: &Atlas,
    groups: &Groups,
    judged: Part,
    scale: Scale,
    anchor: Anchor,
    profiles: &[GroupProfiles],
    predictions: &HashMap<usize, ModelProfiles>,
) -> Judgement {
    let judge = Judge::new(atlas, groups, scale, profiles);
    let mut conditions = Vec::new();
    let mut scatters: Vec<(f64, Scatter)> = Vec::new();
    let mut order: Vec<&usize> = predictions.keys().collect();
    order.sort();
    for at in order {
        let Some((scores, scatter)) = judge.condition(*at, judged, anchor, &predictions[at]) else { continue };
        scatters.push((scores.effect_size.unwrap_or(0.0), scatter));
        conditions.push(scores);
    }
    scatters.sort_by(|a, b| b.0.total_cmp(&a.0));
    let scatters = scatters.into_iter().take(MOST_SCATTERS).map(|(_, scatter)| scatter).collect();
    Judgement { evaluation: Evaluation::new(scale, conditions), scatters }
}

struct Judge<'a> {
    atlas: &'a Atlas,
    groups: &'a Groups,
    scale: Scale,
    profiles: &'a [GroupProfiles],
    contexts: HashMap<&'a [u32], usize>,
    /// The control group of each context.
    controls: HashMap<&'a [u32], &'a GroupProfiles>,
    training: TrainingProfiles,
}

impl<'a> Judge<'a> {
    fn new(atlas: &'a Atlas, groups: &'a Groups, scale: Scale, profiles: &'a [GroupProfiles]) -> Self {
        let table = &atlas.manifest().conditions;
        let mut contexts: HashMap<&[u32], usize> = HashMap::new();
        let mut controls = HashMap::new();
        let mut training = Vec::new();
        for (group, profile) in groups.all().iter().zip(profiles) {
            let next = contexts.len();
            let context = *contexts.entry(&group.covariates).or_insert(next);
            if group.condition == CONTROL {
                controls.insert(group.covariates.as_slice(), profile);
            }
            if let Some(moments) = &profile.training {
                let MeanProfile { cells, mean, .. } = on_scale(moments, scale);
                training.push(Profile { parts: table.parts(group.condition).collect(), context, cells, mean });
            }
        }
        Self { atlas, groups, scale, profiles, contexts, controls, training: TrainingProfiles::new(training) }
    }

    fn condition(
        &self,
        at: usize,
        judged: Part,
        anchor: Anchor,
        model: &ModelProfiles,
    ) -> Option<(ConditionScores, Scatter)> {
        let group = &self.groups.all()[at];
        let table = &self.atlas.manifest().conditions;
        let [first, second] = &self.profiles[at].halves;
        let truth = on_scale(&merged(first.as_ref(), second.as_ref())?, self.scale);
        let control = self.controls.get(group.covariates.as_slice())?;
        let reference = on_scale(control.reference.as_ref()?, self.scale);
        let source = on_scale(control.training.as_ref()?, self.scale);
        let top_train = self.top_train(group);
        let comparison =
            Comparison { truth: &truth, reference: &reference, source: &source.mean, top_train: top_train.as_deref() };
        let predicted = match anchor {
            Anchor::Raw => model.condition.clone(),
            Anchor::Anchored => {
                let changed =
                    model.condition.iter().zip(&model.control).map(|(condition, control)| condition - control);
                source.mean.iter().zip(changed).map(|(start, change)| start + change).collect()
            }
        };
        let scores = comparison.score(&Predicted { mean: predicted.clone(), variance: Some(model.variance.clone()) });
        let parts: Vec<_> = table.parts(group.condition).collect();
        let target =
            || Target { parts: &parts, context: self.contexts[group.covariates.as_slice()], start: &source.mean };
        let baseline = |baseline: Baseline| {
            let predicted = self.training.predict(baseline, target());
            predicted.map_or_else(Scores::default, |mean| comparison.score(&Predicted { mean, variance: None }))
        };
        let ceiling = match (first, second) {
            (Some(first), Some(second)) => {
                let (truth, second) = (on_scale(first, self.scale), on_scale(second, self.scale));
                let prediction = Predicted { variance: second.variance_unbiased(), mean: second.mean };
                Comparison { truth: &truth, ..comparison }.score(&prediction)
            }
            _ => Scores::default(),
        };
        let title = self.title(group);
        let f32s = |values: &[f64]| values.iter().map(|value| narrow(*value)).collect();
        let scatter = Scatter {
            title,
            genes: self.atlas.genes().to_vec(),
            truth: f32s(&truth.mean),
            predicted: f32s(&predicted),
            control: f32s(&source.mean),
            top: top_genes(&truth, &reference, NAMED_GENES),
        };
        let judged = ConditionScores {
            condition: table.name(group.condition).to_owned(),
            dose: table.dose_label(group.condition),
            covariates: self.covariates(group),
            split: judged.name().to_owned(),
            cells: truth.cells,
            scores,
            n_de: differential_genes(&truth, &reference),
            effect_size: effect_size(&truth, &reference),
            ceiling,
            baselines: BaselineScores::of(baseline),
            versus: BTreeMap::new(),
        };
        Some((judged, scatter))
    }

    /// The genes that change most, by the same score as among held-out cells, between training cells that hold any of the
    /// condition's perturbations and the training controls beside them, averaged over covariate combinations: a choice that
    /// no held-out cell has a part in.
    fn top_train(&self, group: &Group) -> Option<Vec<usize>> {
        let table = &self.atlas.manifest().conditions;
        let wanted: Vec<_> = table.parts(group.condition).map(|(perturbation, _)| perturbation).collect();
        let genes = self.atlas.genes().len();
        let (mut change, mut noise, mut pairs) = (vec![0.0; genes], vec![0.0; genes], 0);
        for (other, profile) in self.groups.all().iter().zip(self.profiles) {
            let holds = table.parts(other.condition).any(|(perturbation, _)| wanted.contains(&perturbation));
            let control = self.controls.get(other.covariates.as_slice()).and_then(|control| control.training.as_ref());
            let (Some(perturbed), Some(control), true) = (&profile.training, control, holds) else { continue };
            let (perturbed, control) = (on_scale(perturbed, self.scale), on_scale(control, self.scale));
            for gene in 0..genes {
                change[gene] += perturbed.mean[gene] - control.mean[gene];
                noise[gene] +=
                    perturbed.variance[gene] / count(perturbed.cells) + control.variance[gene] / count(control.cells);
            }
            pairs += 1;
        }
        let score = |gene: usize| {
            let pairs = f64::from(pairs);
            (change[gene] / pairs).abs() / (noise[gene] / (pairs * pairs) + 1e-9).sqrt()
        };
        let mut order: Vec<usize> = (0..genes).collect();
        order.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
        order.truncate(TOP_GENES);
        (0 < pairs).then_some(order)
    }

    fn covariates(&self, group: &Group) -> BTreeMap<String, String> {
        let names = self.atlas.manifest().covariates.iter().map(|covariate| covariate.name.clone());
        names.zip(self.atlas.covariate_values(&group.covariates)).collect()
    }

    fn title(&self, group: &Group) -> String {
        let table = &self.atlas.manifest().conditions;
        let mut title = table.name(group.condition).to_owned();
        let dose = table.dose_label(group.condition);
        if self.atlas.manifest().keys.dose.is_some() {
            title.push_str(&format!(" at {dose}"));
        }
        for value in self.covariates(group).values() {
            title.push_str(&format!(", {value}"));
        }
        title
    }
}

/// Sums as a profile on a scale; on the pseudobulk scale the logarithm is taken of the mean, and the variance follows it
/// to first order.
#[must_use]
pub fn on_scale(moments: &Moments, scale: Scale) -> MeanProfile {
    let mut profile = MeanProfile::from(moments);
    if scale == Scale::Pseudobulk {
        for (mean, variance) in profile.mean.iter_mut().zip(&mut profile.variance) {
            *variance /= (1.0 + *mean).powi(2);
            *mean = mean.ln_1p();
        }
    }
    profile
}

fn merged(first: Option<&Moments>, second: Option<&Moments>) -> Option<Moments> {
    let mut all = first.or(second)?.clone();
    if let (Some(_), Some(second)) = (first, second) {
        all.merge(second);
    }
    Some(all)
}

#[expect(clippy::cast_precision_loss, reason = "a noise needs no more than 52 bits of a count")]
fn count(cells: u64) -> f64 {
    cells as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a picture needs no more than f32")]
fn narrow(value: f64) -> f32 {
    value as f32
}
