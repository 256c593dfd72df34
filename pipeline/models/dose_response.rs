//! Dose responses of genes: means predicted on a grid of doses, compared with the prediction for control.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc};

use arrow::{
    array::{ArrayRef, Float32Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use schemas::{
    Error, Result, arrow::response_schema, conditions::parse, config::GeneChoice, counting::counted, numbers::to_usize,
    skipped::Skipped, vocabulary::Vocabulary,
};
use serde::Serialize;
use stages::{
    model::saved::Model,
    predictor::{
        predict::TargetMeans,
        query::{Job, OnNoControl, OnUnseen, Query, Request, Target},
    },
    reader::{atlas::Atlas, selector::Selector},
    trainer::gene_choice::ChosenGenes,
};

use super::{
    dose_grid::trained_grid,
    predicting::{Prediction, own_split},
};
use crate::flows::{Resources, completed};

/// A request for a dose response.
#[derive(Clone, Debug)]
pub struct ResponseQuery {
    /// A perturbation, or several joined by the delimiter.
    pub condition: String,
    /// Doses of each perturbation, of which every combination is predicted; a single list is that of all perturbations, and without
    /// any, each has its trained doses and some between them.
    pub doses: Vec<Vec<f64>>,
    /// The source cells; by default the controls of each covariate combination.
    pub from: Option<Selector>,
    /// Maximum number of source cells per covariate combination.
    pub cells_per_condition: NonZeroU64,
    /// The genes: a number of those that change most over all doses, some by name, or all.
    pub genes: GeneChoice,
}

/// The dose response of cells to a condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Responses {
    /// The condition, as predictions name it: a pair may have been requested in another order.
    pub condition: String,
    /// The reported genes.
    pub genes: Vec<String>,
    /// One curve per covariate combination.
    pub curves: Vec<Curve>,
    /// Requests that could not be predicted, and the reasons.
    pub skipped: Vec<Skipped>,
}

/// The response of the cells of one covariate combination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Their covariates.
    pub covariates: BTreeMap<String, String>,
    /// Number of source cells.
    pub source_cells: u64,
    /// The prediction for control, for each reported gene.
    pub control: Vec<f32>,
    /// The points, by dose.
    pub points: Vec<Point>,
}

/// The response to one dose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The doses, in the order of the condition.
    pub dose: String,
    /// How far the point is beyond the training data.
    pub extrapolation: &'static str,
    /// Whether the doses were `trained`, in any context and with any other perturbation, or are `interpolated` between trained doses
    /// or no dose, or `extrapolated` beyond the largest; of a pair, the last of these that applies to either.
    pub dose_was: &'static str,
    /// The distance in latent space to the nearest trained condition and covariates: 0 for trained ones; larger
    /// is less certain. `None` if the training data are unknown.
    pub distance: Option<f32>,
    /// The Euclidean length of the predicted change of all genes.
    pub effect_size: f64,
    /// The predicted mean of each reported gene.
    pub mean: Vec<f32>,
    /// The predicted mean minus the prediction for control.
    pub change: Vec<f32>,
}

/// Parses doses from `FIRST:LAST:STEP`, including the last one, or from a list separated by commas.
///
/// # Errors
/// Any other text, a step of 0, or doses that are not non-negative numbers.
pub fn parse_doses(text: &str) -> Result<Vec<f64>> {
    let bad = |why: &str| Error::usage(format!("`{text}`: {why}"), "write --doses 0:1:0.1 or --doses 0.1,0.5,1");
    let number = |part: &str| {
        let dose: f64 = part.trim().parse().map_err(|_| bad(&format!("`{part}` is not a number")))?;
        if dose.is_finite() && dose >= 0.0 { Ok(dose) } else { Err(bad("a dose is a number of at least 0")) }
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (first, last, step) = match parts[..] {
        [first, last, step] => (first, last, step),
        [_] => return text.split(',').map(number).collect(),
        _ => return Err(bad("a range has a first dose, a last dose and a step")),
    };
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    if step <= 0.0 || last < first || (last - first) / step > MOST_DOSES {
        return Err(bad(
            "it needs a first dose, a larger last dose, and a positive step, with at most a thousand steps",
        ));
    }
    let mut doses = Vec::new();
    let mut index = 0.0;
    while first + index * step <= last + step * 1e-9 {
        // Doses are rounded to twelve digits: 3 · 0.1 is shown as 0.3.
        let dose = first + index * step;
        doses.push(format!("{dose:.11e}").parse().unwrap_or(dose));
        index += 1.0;
    }
    Ok(doses)
}

/// Maximum number of steps of a range.
const MOST_DOSES: f64 = 1000.0;
/// Maximum bytes of predicted means held until the reported genes are known.
const MOST_BYTES: usize = 512 << 20;

/// Predicts the responses.
///
/// # Errors
/// A perturbation that the model does not know, or doses that don't match the condition; otherwise as for
/// [`Prediction::prepare`].
pub fn respond(atlas: &Atlas, model: &Model, query: &ResponseQuery, resources: &Resources) -> Result<Responses> {
    let rules = &model.card.rules;
    if parse(&query.condition, None, rules).is_ok_and(|parts| parts.is_empty()) {
        let message = format!("`{}` is control, which has no dose", query.condition);
        return Err(Error::usage(message, "name a perturbation or a pair"));
    }
    let parts = rules.parts(&query.condition);
    let doses = match &query.doses[..] {
        [] => parts.iter().map(|part| trained_grid(&model.card.vocabulary, part.trim())).collect(),
        [every] => vec![every.clone(); parts.len()],
        each if each.len() == parts.len() => each.to_vec(),
        each => {
            let message = format!(
                "`{}` has {}, but there are {} lists of doses",
                query.condition,
                counted(parts.len() as u64, "perturbation"),
                each.len()
            );
            return Err(Error::usage(message, "give --doses once, or once for each perturbation"));
        }
    };
    let named = |condition: &str, dose: Option<String>| {
        let mut pairs = vec![("condition".to_owned(), condition.to_owned())];
        pairs.extend(dose.map(|dose| ("dose".to_owned(), dose)));
        Request::Named(Selector(pairs))
    };
    let mut labels = vec![String::new()];
    for (at, of_one) in doses.iter().enumerate() {
        let delimiter = if at == 0 { "" } else { &rules.delimiter };
        labels = labels
            .iter()
            .flat_map(|label| of_one.iter().map(move |dose| format!("{label}{delimiter}{dose}")))
            .collect();
    }
    let control = &model.card.vocabulary.perturbations[1];
    let mut to = vec![named(control, None)];
    to.extend(labels.into_iter().map(|label| named(&query.condition, Some(label))));
    let query_of_means = Query {
        to,
        from: query.from.clone(),
        cells_per_condition: Some(query.cells_per_condition),
        unseen: OnUnseen::Error,
        no_control: OnNoControl::Skip,
        ..Query::default()
    };
    let split = own_split(model, atlas)?;
    let prediction = Prediction::prepare(atlas, model, &query_of_means, split.as_ref(), resources.clone())?;
    let skipped = prediction.jobs().skipped.clone();
    let bytes = prediction.jobs().targets() * model.card.genes.len() * size_of::<f32>();
    if bytes > MOST_BYTES {
        let message = format!("{} curve points would be held at once", prediction.jobs().targets());
        return Err(Error::usage(message, "ask for fewer doses, or for one covariate combination with --from"));
    }
    if let (0, Some(first)) = (prediction.jobs().targets(), skipped.first()) {
        return Err(Error::data(
            first.condition.clone(),
            first.why.clone(),
            "`perturbine inspect` lists the known names",
        ));
    }
    let (jobs, pipeline) = prediction.means();
    let mut means: Vec<TargetMeans> = Vec::new();
    for found in pipeline.stream() {
        match found {
            // Only the means of the predictions are used.
            Ok(found) => means.push(TargetMeans { variance: Vec::new(), control_mean: Vec::new(), ..found }),
            Err(error) => completed::<()>(Err(error), "run the same command again").map(|_| ())?,
        }
    }
    let curves = WholeCurves::new(&jobs, means);
    let genes = curves.chosen(&atlas.with_genes(&model.card.genes)?, &query.genes)?;
    Ok(Responses {
        condition: curves.condition().unwrap_or(&query.condition).to_owned(),
        curves: curves.for_genes(model, &genes),
        genes: genes.iter().map(|at| model.card.genes[*at].clone()).collect(),
        skipped,
    })
}

/// Curves of all genes: for each covariate combination, the prediction for control, followed by the doses.
struct WholeCurves<'a> {
    jobs: &'a Arc<Vec<Job>>,
    curves: BTreeMap<Vec<String>, (TargetMeans, Vec<TargetMeans>)>,
}

impl<'a> WholeCurves<'a> {
    fn new(jobs: &'a Arc<Vec<Job>>, means: Vec<TargetMeans>) -> Self {
        let mut curves: BTreeMap<Vec<String>, (TargetMeans, Vec<TargetMeans>)> = BTreeMap::new();
        for found in means {
            let covariates = jobs[found.job].targets[found.target].covariates.clone();
            match curves.get_mut(&covariates) {
                Some((_, points)) => points.push(found),
                // Control is the first target.
                None => drop(curves.insert(covariates, (found, Vec::new()))),
            }
        }
        Self { jobs, curves }
    }

    /// The name of the points' condition, in whose order their doses are written.
    fn condition(&self) -> Option<&str> {
        let (_, points) = self.curves.values().find(|(_, points)| !points.is_empty())?;
        let point = points.first()?;
        Some(&self.jobs[point.job].targets[point.target].condition)
    }

    fn change(control: &TargetMeans, point: &TargetMeans, gene: usize) -> f32 {
        point.mean[gene] - control.mean[gene]
    }

    /// The indices of the reported genes.
    fn chosen(&self, atlas: &Atlas, genes: &GeneChoice) -> Result<Vec<usize>> {
        let all = atlas.genes().len();
        match genes {
            GeneChoice::All => Ok((0..all).collect()),
            GeneChoice::Listed(file) => {
                let mut listed = ChosenGenes::none(atlas);
                listed.add_listed(file)?;
                let names = listed.names();
                Ok((0..all).filter(|at| names.contains(&atlas.genes()[*at])).collect())
            }
            GeneChoice::Variable(count) => {
                let mut most = vec![0.0_f32; all];
                for (control, points) in self.curves.values() {
                    for point in points {
                        let changes = (0..all).map(|gene| Self::change(control, point, gene).abs());
                        most.iter_mut().zip(changes).for_each(|(most, change)| *most = most.max(change));
                    }
                }
                let mut order: Vec<usize> = (0..all).collect();
                order.sort_by(|a, b| most[*b].total_cmp(&most[*a]).then(a.cmp(b)));
                order.truncate(to_usize(*count));
                Ok(order)
            }
        }
    }

    fn for_genes(&self, model: &Model, genes: &[usize]) -> Vec<Curve> {
        let names = || model.card.vocabulary.covariates.iter().map(|covariate| covariate.name.clone());
        let pick = |values: &[f32]| -> Vec<f32> { genes.iter().map(|gene| values[*gene]).collect() };
        let curves = self.curves.iter().map(|(covariates, (control, points))| Curve {
            covariates: names().zip(covariates.iter().cloned()).collect(),
            source_cells: control.source_cells,
            control: pick(&control.mean),
            points: points
                .iter()
                .map(|point| {
                    let target = &self.jobs[point.job].targets[point.target];
                    let squares =
                        (0..point.mean.len()).map(|gene| f64::from(Self::change(control, point, gene)).powi(2));
                    Point {
                        dose: target.dose.clone(),
                        extrapolation: target.extrapolation.name(),
                        dose_was: dose_was(&model.card.vocabulary, target),
                        distance: point.distance,
                        effect_size: squares.sum::<f64>().sqrt(),
                        mean: pick(&point.mean),
                        change: genes.iter().map(|gene| Self::change(control, point, *gene)).collect(),
                    }
                })
                .collect(),
        });
        curves.collect()
    }
}

/// How the doses of a target relate to those of training.
fn dose_was(vocabulary: &Vocabulary, target: &Target) -> &'static str {
    let kinds = target.parts.iter().map(|(code, dose)| {
        let trained = vocabulary.trained.iter().flat_map(|group| group.perturbations.iter().zip(&group.doses));
        let trained: Vec<f64> = trained.filter(|(known, _)| *known == code).map(|(_, dose)| *dose).collect();
        if trained.contains(dose) {
            0
        } else if trained.iter().any(|known| known > dose) {
            1
        } else {
            2
        }
    });
    ["trained", "interpolated", "extrapolated"][kinds.max().unwrap_or(0)]
}

impl Responses {
    /// The curves as a table: one row per covariate combination, dose and gene.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn table(&self) -> Result<RecordBatch> {
        let covariates: Vec<String> =
            self.curves.first().map(|curve| curve.covariates.keys().cloned().collect()).unwrap_or_default();
        let schema: SchemaRef = response_schema(&covariates);
        let rows: Vec<(&Curve, &Point, usize)> = self
            .curves
            .iter()
            .flat_map(|curve| curve.points.iter().map(move |point| (curve, point)))
            .flat_map(|(curve, point)| (0..self.genes.len()).map(move |gene| (curve, point, gene)))
            .collect();
        let text = |text_of: &dyn Fn(&(&Curve, &Point, usize)) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(text_of)))
        };
        let number = |number_of: &dyn Fn(&(&Curve, &Point, usize)) -> f32| -> ArrayRef {
            Arc::new(Float32Array::from_iter_values(rows.iter().map(number_of)))
        };
        let mut columns = vec![text(&|_| self.condition.clone()), text(&|(_, point, _)| point.dose.clone())];
        columns.extend(covariates.iter().map(|name| text(&|(curve, ..)| curve.covariates[name].clone())));
        columns.push(text(&|(_, point, _)| point.extrapolation.to_owned()));
        columns.push(text(&|(_, point, _)| point.dose_was.to_owned()));
        columns.push(Arc::new(Float32Array::from_iter(rows.iter().map(|(_, point, _)| point.distance))));
        columns.push(text(&|(.., gene)| self.genes[*gene].clone()));
        columns.push(number(&|(_, point, gene)| point.mean[*gene]));
        columns.push(number(&|(curve, _, gene)| curve.control[*gene]));
        columns.push(number(&|(_, point, gene)| point.change[*gene]));
        RecordBatch::try_new(schema, columns).map_err(|error| Error::Bug(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doses_are_a_range_with_both_ends_or_a_list() {
        let doses = |text| parse_doses(text).expect("they are doses");
        assert_eq!(doses("0:1:0.25"), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(doses("0:0.3:0.1"), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(doses("1,10, 100"), [1.0, 10.0, 100.0]);
        assert_eq!(doses("0:1.5e-9:5e-10"), [0.0, 5e-10, 1e-9, 1.5e-9]);
        assert_eq!(doses("2"), [2.0]);
        for bad in ["1:0:0.1", "0:1:0", "0:1", "a", "-1", "0:1e9:1", "nan", ""] {
            assert!(parse_doses(bad).is_err(), "{bad} are not doses");
        }
    }
}
