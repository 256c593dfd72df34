//! The trained groups that offsets are computed from: the control profile of each context, and the shift of
//! each perturbed group.
//!
//! A *context* is a combination of covariate values, without the batch: the network learns batch effects, and
//! predictions may be for any batch or none.

use std::collections::HashMap;

use schemas::vocabulary::Vocabulary;

/// The code for all batches.
const ANY_BATCH: u32 = 0;

/// Contexts and groups, in the order in which they were trained.
#[derive(Clone, Debug)]
pub struct OffsetLayout {
    contexts: Vec<TrainedContext>,
    context_at: HashMap<Vec<u32>, usize>,
    pub(super) rows: Vec<Row>,
    /// Rows of each combination, by its codes, ascending.
    pub(super) by_combination: HashMap<Vec<u32>, Vec<usize>>,
    batch: Option<usize>,
}

/// Cells that share covariate values.
#[derive(Clone, Debug, PartialEq)]
struct TrainedContext {
    /// Codes of the values.
    covariates: Vec<u32>,
    has_controls: bool,
}

/// The context of a target.
#[derive(Clone, Debug)]
pub(super) struct TargetContext {
    /// The trained context, if it is one.
    pub(super) own: Option<usize>,
    /// Contexts whose controls replace its own, with equal weights.
    pub(super) stand_ins: Vec<usize>,
}

/// Cells of one condition in one context.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Codes and doses, codes ascending.
    pub(super) parts: Vec<(u32, f64)>,
    pub(super) context: usize,
}

/// The role of training cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupRole {
    /// Controls of a context.
    Control(usize),
    /// Cells of a perturbed group.
    Perturbed(usize),
}

impl OffsetLayout {
    /// The layout of all training data.
    #[must_use]
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Self {
        let batch = vocabulary.batch_at();
        let mut layout = Self {
            contexts: Vec::new(),
            context_at: HashMap::new(),
            rows: Vec::new(),
            by_combination: HashMap::new(),
            batch,
        };
        for group in &vocabulary.trained {
            let codes = group.covariates.iter().zip(&vocabulary.covariates);
            let codes: Option<Vec<u32>> = codes.map(|(value, covariate)| covariate.code(value)).collect();
            let Some(codes) = codes else { continue };
            let context = layout.context(&codes).unwrap_or_else(|| {
                let covariates = layout.without_batch(&codes);
                layout.context_at.insert(covariates.clone(), layout.contexts.len());
                layout.contexts.push(TrainedContext { covariates, has_controls: false });
                layout.contexts.len() - 1
            });
            if group.perturbations.is_empty() {
                layout.contexts[context].has_controls = true;
                continue;
            }
            let parts: Vec<(u32, f64)> = group.perturbations.iter().copied().zip(group.doses.iter().copied()).collect();
            let row = Row { parts, context };
            let of_combination = layout.by_combination.entry(group.perturbations.clone()).or_default();
            if !of_combination.iter().any(|at| layout.rows[*at] == row) {
                of_combination.push(layout.rows.len());
                layout.rows.push(row);
            }
        }
        layout
    }

    /// Number of contexts and of perturbed groups.
    #[must_use]
    pub fn sizes(&self) -> [usize; 2] {
        [self.contexts.len(), self.rows.len()]
    }

    fn without_batch(&self, codes: &[u32]) -> Vec<u32> {
        let key_code = |(at, code): (usize, &u32)| if self.batch == Some(at) { ANY_BATCH } else { *code };
        codes.iter().enumerate().map(key_code).collect()
    }

    /// The context of covariate codes.
    pub(super) fn context(&self, codes: &[u32]) -> Option<usize> {
        self.context_at.get(&self.without_batch(codes)).copied()
    }

    /// The role of cells with these parts and covariate codes; control is one of the parts.
    pub fn place(&self, parts: &[(u32, f64)], codes: &[u32]) -> Option<GroupRole> {
        let context = self.context(codes)?;
        if is_control(parts) {
            return Some(GroupRole::Control(context));
        }
        let of_combination = self.by_combination.get(&combination(parts))?;
        let found =
            of_combination.iter().find(|at| self.rows[**at].context == context && self.rows[**at].parts == parts);
        found.map(|at| GroupRole::Perturbed(*at))
    }

    /// The context of a perturbed group.
    pub fn context_of(&self, row: usize) -> usize {
        self.rows[row].context
    }

    /// Whether a context has its own controls.
    pub fn has_controls(&self, context: usize) -> bool {
        self.contexts[context].has_controls
    }

    /// The contexts whose controls are used for covariate values, with equal weights: the context itself or, if
    /// it has no controls, those that share the most values with it. An unspecified value matches all values.
    pub fn stand_ins(&self, covariates: &[Option<u32>]) -> Vec<usize> {
        let shared = |context: &TrainedContext| {
            let pairs = context.covariates.iter().zip(covariates).enumerate().filter(|(at, _)| self.batch != Some(*at));
            pairs.filter(|(_, (own, value))| value.is_none_or(|value| value == **own)).count()
        };
        let with_controls = || self.contexts.iter().enumerate().filter(|(_, context)| context.has_controls);
        let most = with_controls().map(|(_, context)| shared(context)).max();
        with_controls().filter(|(_, context)| Some(shared(context)) == most).map(|(at, _)| at).collect()
    }

    /// The same, for a trained context.
    pub fn stand_ins_of(&self, context: usize) -> Vec<usize> {
        if self.contexts[context].has_controls {
            return vec![context];
        }
        self.stand_ins(&self.contexts[context].covariates.iter().map(|code| Some(*code)).collect::<Vec<_>>())
    }
}

/// Whether these are controls.
pub(super) fn is_control(parts: &[(u32, f64)]) -> bool {
    parts.iter().all(|(code, _)| *code == 1)
}

/// The codes without doses.
pub(super) fn combination(parts: &[(u32, f64)]) -> Vec<u32> {
    parts.iter().map(|(code, _)| *code).collect()
}
