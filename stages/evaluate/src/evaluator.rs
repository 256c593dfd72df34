//! Compares evaluated cells with predictions of them, condition by condition, alongside the baselines.

mod candidates;
mod evidence;
mod expressed;
mod halves;
mod joined;
mod train_choice;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use reader::{atlas::Atlas, groups::Groups, profiles::GroupProfiles, split::SplitPart};
use schemas::conditions::CONTROL;
use statistics::{
    compared::ComparedGenes,
    differential::{effect_size, top_genes},
    matched::BatchControls,
    metrics,
    moments::{MeanProfile, Moments},
    scale::Scale,
};

pub use self::evidence::{
    ConditionEvaluation, ControlProfile, EvaluationEvidence, GroupEvaluation, ModelProfiles, PointSets, Tabulate,
    Unscored,
};
pub use self::joined::on_scale;
use self::{
    candidates::{Candidate, CandidateCells, Case, EvaluatedPart, PREDICTIONS, ScoringCells, of_baseline},
    expressed::expressed,
    halves::HalfScores,
    joined::{Context, JoinedProfiles, merged},
};
use crate::{
    Baseline, BaselineScores, ChosenScores, ComparedPrediction, Comparison, ConditionScores, ContextGroup,
    ContextGroups, GeneChanges, Predicted, PredictionScores, ScoredGenes, TrainingProfile, TrainingProfiles,
    comparison::TRAIN_UNIVERSE,
    gene_changes::standard_errors,
    versus::{self, DrawnBlocks, DrawnScores, ResampledMeans},
};

/// Why a condition can't be scored.
const NO_REFERENCE: &str = "no control with these covariates is among those that real changes are measured from";
const NO_SOURCE: &str = "no control with these covariates is among those that predictions start from";
/// Number of most changed genes of a condition that charts and tables name.
const NAMED_GENES: usize = 50;

/// Everything needed to evaluate conditions, separately and in any order.
pub struct Evaluator {
    atlas: Atlas,
    groups: Arc<ContextGroups>,
    judged: SplitPart,
    scale: Scale,
    profiles: Vec<JoinedProfiles>,
    point_sets: PointSets,
    /// The controls of each context.
    contexts: HashMap<Vec<u32>, Context>,
    training: TrainingProfiles,
    /// The mean of each group's evaluated cells, or else of its training cells, for identifying predictions.
    means: Vec<Option<Vec<f32>>>,
    /// The mean of the first half of each group's evaluated cells, if it has two.
    half_means: Vec<Option<Vec<f32>>>,
    /// Indices of the evaluated genes among the compared ones; on the pseudobulk scale, only expressed genes are
    /// evaluated.
    chosen: Vec<usize>,
    /// Their indices among the atlas's genes.
    places: Vec<usize>,
    /// The index of each evaluated gene among them, by its name.
    genes: HashMap<String, usize>,
    chosen_scores: ChosenScores,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("judged", &self.judged).field("scale", &self.scale).finish_non_exhaustive()
    }
}

/// The profiles and points of real cells.
#[derive(Debug)]
pub struct RealProfiles {
    /// The scale of the profiles.
    pub scale: Scale,
    /// Their genes.
    pub compared: Arc<ComparedGenes>,
    /// The profiles of the atlas's groups, one per batch.
    pub profiles: Vec<GroupProfiles>,
    /// The point sets of the groups joined over batches.
    pub point_sets: PointSets,
}

impl Evaluator {
    /// Creates an evaluator of the `judged` cells of these groups.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        batch_groups: &Groups,
        groups: Arc<ContextGroups>,
        judged: SplitPart,
        real: RealProfiles,
    ) -> Self {
        let RealProfiles { scale, compared, profiles, point_sets } = real;
        let chosen: Vec<usize> = match scale {
            Scale::Pseudobulk => expressed(&profiles, compared.chosen().len()),
            Scale::LogNormalised | Scale::Log1p | Scale::Values => (0..compared.chosen().len()).collect(),
        };
        let places: Vec<usize> = chosen.iter().map(|gene| compared.chosen()[*gene]).collect();
        let mut profiles: Vec<GroupProfiles> = match chosen.len() == compared.chosen().len() {
            true => profiles,
            false => profiles.into_iter().map(|profiles| profiles.only(&chosen)).collect(),
        };
        let table = &atlas.manifest().conditions;
        let batch_of = |at: usize| batch_groups.all()[at].covariates.last().copied().unwrap_or_default();
        let mut contexts: HashMap<Vec<u32>, Context> = HashMap::new();
        for (at, group) in groups.all().iter().enumerate() {
            let number = contexts.len();
            let context =
                contexts.entry(group.context.clone()).or_insert_with(|| Context { number, ..Context::default() });
            if group.condition == CONTROL {
                let controls = |used: &dyn Fn(&GroupProfiles) -> Option<Moments>| {
                    let members = group.members.iter();
                    BatchControls::new(members.filter_map(|at| Some((batch_of(*at), used(&profiles[*at])?))).collect())
                };
                context.group = Some(at);
                context.source = controls(&|profiles| profiles.training.clone());
                context.reference = controls(&|profiles| profiles.reference.clone());
            }
        }
        let (mut training, mut means, mut half_means, mut joined) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for group in groups.all() {
            let members = group.members.iter();
            let profile = JoinedProfiles::new(members.map(|at| (batch_of(*at), std::mem::take(&mut profiles[*at]))));
            let context = &contexts[&group.context];
            let trained = profile.training.as_ref().map(|moments| on_scale(MeanProfile::from(moments), scale));
            let judged = merged(&profile.halves).map(|moments| on_scale(MeanProfile::from(&moments), scale).mean);
            let told_apart = judged.as_ref().or(trained.as_ref().map(|trained| &trained.mean));
            means.push(told_apart.filter(|_| group.condition != CONTROL).map(|mean| narrow_all(mean)));
            half_means.push(match &profile.halves {
                [Some(first), Some(_)] => Some(narrow_all(&on_scale(MeanProfile::from(first), scale).mean)),
                _ => None,
            });
            if let Some(MeanProfile { cells, mean, .. }) = trained {
                let parts: Vec<_> = table.parts(group.condition).collect();
                let matched = context.source.as_ref().filter(|controls| controls.differ() && !parts.is_empty());
                let control =
                    matched.map(|controls| on_scale(controls.matched(&profile.training_batches), scale).mean.into());
                training.push(TrainingProfile { parts, context: context.number, cells, mean, control });
            }
            joined.push(profile);
        }
        for (group, profile) in groups.all().iter().zip(&joined).filter(|(group, _)| group.condition != CONTROL) {
            if let Some(context) = contexts.get_mut(&group.context) {
                context.add_perturbed(profile);
            }
        }
        for context in contexts.values_mut() {
            context.variance_change = context.mean_variance_change(groups.all(), &joined, scale);
        }
        let genes = places.iter().enumerate().map(|(at, place)| (atlas.genes()[*place].clone(), at)).collect();
        let training = TrainingProfiles::new(training);
        let atlas = atlas.clone();
        Self {
            atlas,
            groups,
            judged,
            scale,
            profiles: joined,
            point_sets,
            contexts,
            training,
            means,
            half_means,
            chosen,
            places,
            genes,
            chosen_scores: ChosenScores::default(),
        }
    }

    /// The same evaluator, which computes only these scores.
    #[must_use]
    pub fn only(self, chosen_scores: ChosenScores) -> Self {
        Self { chosen_scores, ..self }
    }

    /// Evaluates the prediction of one group.
    ///
    /// # Panics
    /// If there is no such group.
    #[must_use]
    pub fn evaluate(&self, model: &ModelProfiles) -> GroupEvaluation {
        let group = &self.groups.all()[model.group];
        GroupEvaluation(self.condition(model, group).map_err(|why| Unscored {
            condition: self.atlas.manifest().conditions.name(group.condition).to_owned(),
            covariates: self.covariates(group),
            why,
        }))
    }

    /// The mean of each evaluated gene over a group's real cells, on the scale of the evaluation.
    #[must_use]
    pub fn real_mean(&self, group: usize) -> Option<&[f32]> {
        self.means[group].as_deref()
    }

    /// The scores of a group, or why it has none.
    fn condition(&self, model: &ModelProfiles, group: &ContextGroup) -> Result<ConditionEvaluation, &'static str> {
        let model = &model.only(&self.chosen);
        let at = model.group;
        let JoinedProfiles { halves, judged_batches, .. } = &self.profiles[at];
        let context = &self.contexts[&group.context];
        let scaled = |profile: MeanProfile| on_scale(profile, self.scale);
        let half = |moments: &Moments| scaled(MeanProfile::from(moments));
        let truth = half(&merged(halves).ok_or("none of its cells are evaluated")?);
        let reference = context.reference.as_ref().ok_or(NO_REFERENCE)?.matched(judged_batches);
        let source = context.source.as_ref().ok_or(NO_SOURCE)?.matched(judged_batches);
        let (reference, source) = (scaled(reference), scaled(source));
        let rest = context.without(&self.profiles[at]).map(|rest| scaled(MeanProfile::from(&rest)));
        let chosen = ScoredGenes::choose(&truth, &reference, rest.as_ref(), self.top_train(group, TRAIN_UNIVERSE));
        let surroundings = self.surroundings(at, &reference, EvaluatedPart::Whole);
        let real_points = |at: usize| self.point_sets.real[at][0].with(&self.point_sets.real[at][1]);
        let controls = context.group.map(real_points);
        let case = Case {
            at,
            group,
            context,
            source: &source,
            reference: &reference,
            rest: rest.as_ref(),
            controls: controls.as_ref(),
            real: surroundings.real(),
        };
        let candidates = self.candidates(&case, model);
        let perturbed = of_baseline(&candidates, Baseline::PerturbedMean).map(|one| one.predicted.mean.clone());
        let comparison = Comparison {
            truth: &truth,
            reference: &reference,
            source: &source.mean,
            chosen: &chosen,
            perturbed: perturbed.as_deref(),
        };
        let points = real_points(at);
        let real = ScoringCells::new(comparison, &self.chosen_scores, &points, case.controls);
        let mut scores = candidates.each_ref().map(|one| one.as_ref().map(|one| real.score(one)).unwrap_or_default());
        if let Some(tests) = &model.tests {
            scores[0] = self.chosen_scores.only(scores[0].or(&tests.model[0]));
            for (scores, baseline) in scores[1..].iter_mut().zip(Baseline::ALL) {
                *scores = self.chosen_scores.only(scores.or(&tests.of_baseline(baseline, 0)));
            }
        }
        let offset = model.offset_anchored_at(&source).and_then(|predicted| {
            Candidate::all(&case, vec![(predicted, CandidateCells::Unknown)]).first().map(|one| real.score(one))
        });
        let HalfScores { ceiling, ranges } = match halves {
            [Some(first), Some(second)] => {
                self.by_halves(&case, &comparison, &candidates, [&half(first), &half(second)], model.tests.as_deref())
            }
            _ => HalfScores::default(),
        };
        let mut scores = scores.into_iter();
        let contestants = candidates.map(|one| Candidate::compared(one, scores.next().unwrap_or_default()));
        let [ComparedPrediction { scores, predicted }, ..] = &contestants;
        let table = &self.atlas.manifest().conditions;
        let by_baseline: HashMap<&str, PredictionScores> =
            Baseline::ALL.iter().zip(&contestants[1..]).map(|(baseline, one)| (baseline.name(), one.scores)).collect();
        let drawn = self.drawn(&case, &comparison, &contestants);
        let (versus, draws) = versus::of_condition(&contestants, &drawn, context.number);
        let judged = ConditionScores {
            condition: table.name(group.condition).to_owned(),
            dose: table.dose_label(group.condition),
            covariates: self.covariates(group),
            split: self.judged.name().to_owned(),
            cells: truth.cells,
            scores: *scores,
            n_de: chosen.differential.as_ref().map(Vec::len),
            effect_size: effect_size(&truth, &reference),
            de_nsig_counts: model.tests.as_ref().and_then(|tests| tests.counts),
            distance: model.distance,
            beyond_additive: beyond_additive(&comparison, predicted.as_ref(), &contestants),
            ceiling,
            ranges,
            baselines: BaselineScores { offset, ..BaselineScores::from_fn(|baseline| by_baseline[baseline.name()]) },
            versus,
        };
        let change = |predicted: &Predicted| narrow_all(&metrics::difference(&predicted.mean, &source.mean));
        let changes = GeneChanges {
            title: self.title(group),
            cells: truth.cells,
            reference_cells: reference.cells,
            genes: self.places.iter().map(|place| self.atlas.genes()[*place].clone()).collect(),
            control: narrow_all(&source.mean),
            real: narrow_all(&comparison.real_change()),
            standard_error: narrow_all(&standard_errors(&truth, &reference)),
            predicted: predicted.as_ref().map(change).unwrap_or_default(),
            top: top_genes(&truth, &reference, NAMED_GENES),
        };
        Ok(ConditionEvaluation { scores: judged, changes, draws })
    }

    /// The scores of predictions in draws of a condition's cells and of its reference controls; draws of the controls are the
    /// same for all conditions of a context.
    fn drawn(
        &self,
        case: &Case<'_>,
        comparison: &Comparison<'_>,
        contestants: &[ComparedPrediction; PREDICTIONS],
    ) -> Vec<DrawnScores> {
        let cells = self.profiles[case.at].blocks.as_ref();
        let controls = case.context.group.and_then(|at| self.profiles[at].blocks.as_ref());
        let (Some(cells), Some(controls), Some(all)) = (cells, controls, &case.context.reference) else {
            return Vec::new();
        };
        let all = on_scale(all.all(), self.scale).mean;
        let (seed, control_seed) = ((case.at as u64) << 1, (case.context.number as u64) << 1 | 1);
        if self.scale != Scale::Pseudobulk {
            let drawn = DrawnBlocks { cells, seed, controls, control_seed, control_mean: &all };
            return versus::by_blocks(comparison, contestants, &drawn);
        }
        // Logarithms of means are no sums of blocks.
        let logarithms = |mut mean: Vec<f64>| {
            mean.iter_mut().for_each(|mean| *mean = mean.ln_1p());
            mean
        };
        let draws = (0..versus::CELL_DRAWS as u64).filter_map(|draw| {
            let truth = logarithms(cells.weighted(&cells.weights(seed, draw)?));
            let mut drawn = logarithms(controls.weighted(&controls.weights(control_seed, draw)?));
            // Matching to batches moves every draw as it moves the mean of all controls.
            for ((drawn, matched), all) in drawn.iter_mut().zip(&comparison.reference.mean).zip(&all) {
                *drawn += matched - all;
            }
            Some(ResampledMeans { truth, reference: drawn })
        });
        versus::by_means(comparison, contestants, draws)
    }

    fn covariates(&self, group: &ContextGroup) -> BTreeMap<String, String> {
        let names = self.atlas.manifest().covariates.iter().map(|covariate| covariate.name.clone());
        names.zip(self.atlas.covariate_values(&group.context)).collect()
    }

    fn title(&self, group: &ContextGroup) -> String {
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

/// The correlation between the predicted and the real change, after subtracting the change predicted by
/// `additive` from both.
fn beyond_additive(
    comparison: &Comparison<'_>,
    predicted: Option<&Predicted>,
    contestants: &[ComparedPrediction],
) -> Option<f64> {
    let at = Baseline::ALL.iter().position(|baseline| *baseline == Baseline::Additive)?;
    let (predicted, additive) = (predicted?, contestants.get(1 + at)?.predicted.as_ref()?);
    let change = metrics::difference(&additive.mean, comparison.source);
    let real = metrics::difference(&comparison.truth.mean, &comparison.reference.mean);
    metrics::pearson(&metrics::difference(&predicted.mean, &additive.mean), &metrics::difference(&real, &change))
}

#[expect(clippy::cast_possible_truncation, reason = "a picture and a rank need no more than f32")]
fn narrow_all(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
