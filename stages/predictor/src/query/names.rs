//! Turns names into a model's codes.

use std::{cmp::Ordering, collections::HashMap};

use model_card::ModelCard;
use reader::atlas::Atlas;
use schemas::{
    Error, Result,
    conditions::{Covariate, dose_label, parse},
    vocabulary::CovariateTerm,
};

use super::{OnUnseenCovariate, Target, extrapolation::TrainingCoverage, nearest::NearestValues};

/// Maximum number of a covariate's trained values that an error lists.
pub(super) const SHOWN_VALUES: usize = 5;

/// A model's names, prepared for look-up.
#[derive(Debug)]
pub(super) struct Names<'a> {
    card: &'a ModelCard,
    atlas: &'a Atlas,
    codes: HashMap<&'a str, u32>,
    /// The order in which a combination's perturbations are written, by its sorted codes: as first seen.
    spelled: HashMap<Vec<u32>, Vec<u32>>,
    /// Doses at which a combination was trained, by its sorted codes, in the same order.
    doses: HashMap<Vec<u32>, Vec<Vec<f64>>>,
    trained: TrainingCoverage,
    /// Whether the only known perturbations are those with a row in the table of embeddings.
    embedded: bool,
    /// The policy for covariate values that were not trained.
    pub(super) unseen_covariate: OnUnseenCovariate,
    nearest: NearestValues<'a>,
}

/// A condition in a model's codes, in the order in which its name is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CodedCondition {
    codes: Vec<u32>,
    doses: Option<Vec<f64>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(card: &'a ModelCard, atlas: &'a Atlas, embedded: bool) -> Self {
        let vocabulary = &card.vocabulary;
        let codes: HashMap<&str, u32> =
            (1_u32..).zip(&vocabulary.perturbations[1..]).map(|(code, name)| (name.as_str(), code)).collect();
        let mut spelled = HashMap::new();
        let of_atlas = atlas.manifest().conditions.combinations().iter().map(|combination| combination.name.as_str());
        for name in of_atlas.chain(vocabulary.combinations.iter().map(String::as_str)) {
            let order: Option<Vec<u32>> =
                card.rules.parts(name).into_iter().map(|part| codes.get(part.trim()).copied()).collect();
            if let Some(order) = order {
                spelled.entry(sorted(&order)).or_insert(order);
            }
        }
        let mut doses: HashMap<Vec<u32>, Vec<Vec<f64>>> = HashMap::new();
        for group in &vocabulary.trained {
            let known = doses.entry(group.perturbations.clone()).or_default();
            if !known.contains(&group.doses) {
                known.push(group.doses.clone());
            }
        }
        for known in doses.values_mut() {
            known.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
        }
        Self {
            card,
            atlas,
            codes,
            spelled,
            doses,
            trained: TrainingCoverage::new(vocabulary),
            embedded,
            unseen_covariate: OnUnseenCovariate::Error,
            nearest: NearestValues::new(atlas),
        }
    }

    /// Reads a condition's name and, if given, its dose.
    ///
    /// # Errors
    /// Text that can't be read, or perturbations that were not trained.
    pub(super) fn read(&self, condition: &str, dose: Option<&str>) -> Result<CodedCondition> {
        let hint = "write --to 'condition=A+B,dose=1+0.5', with one dose per perturbation, in the same order";
        let named = parse(condition, dose, &self.card.rules).map_err(|error| Error::usage(error.to_string(), hint))?;
        let mut parts: Vec<(u32, f64)> = Vec::new();
        for (name, dose) in &named {
            let known = || self.card.vocabulary.perturbations.iter().skip(2).map(String::as_str);
            let trained = self.codes.get(name.as_ref()).copied().filter(|code| *code > 1);
            let unseen = || self.card.vocabulary.embedded(name).filter(|code| self.embedded && *code > 1);
            let code = trained.or_else(unseen);
            let unknown = || match self.atlas.manifest().conditions.perturbation(name) {
                Some(_) => {
                    let hint = "train on some of its cells, leave it out with --unseen skip, or train with a table of embeddings \
                                (model.perturbation_embeddings) and predict with --unseen embedding";
                    let what = "the atlas has it, but the model was not trained on it";
                    Error::data(format!("perturbation `{name}`"), what, hint)
                }
                None => Error::unknown("perturbation", name, known()),
            };
            parts.push((code.ok_or_else(unknown)?, *dose));
        }
        let typed: Vec<u32> = parts.iter().map(|(code, _)| *code).collect();
        let codes = self.spelled.get(&sorted(&typed)).cloned().unwrap_or(typed);
        let dose_of = |code: &u32| parts.iter().find(|(known, _)| known == code).map_or(1.0, |(_, dose)| *dose);
        Ok(CodedCondition { doses: dose.map(|_| codes.iter().map(dose_of).collect()), codes })
    }

    /// The condition at its given dose; without one, at every dose at which it was trained, or else at 1.
    pub(super) fn at_doses(&self, coded: &CodedCondition) -> Vec<CodedCondition> {
        if coded.doses.is_some() {
            return vec![coded.clone()];
        }
        let key = sorted(&coded.codes);
        let as_written = self.card.vocabulary.doses_as_written;
        let in_order = |doses: &Vec<f64>| {
            if as_written {
                return CodedCondition { codes: coded.codes.clone(), doses: Some(doses.clone()) };
            }
            let dose_of = |code: &u32| key.iter().position(|known| known == code).map_or(1.0, |at| doses[at]);
            CodedCondition { codes: coded.codes.clone(), doses: Some(coded.codes.iter().map(dose_of).collect()) }
        };
        match self.doses.get(&key) {
            Some(trained) => trained.iter().map(in_order).collect(),
            None => vec![CodedCondition { doses: Some(vec![1.0; coded.codes.len()]), codes: coded.codes.clone() }],
        }
    }

    /// The name of a condition.
    pub(super) fn condition_name(&self, coded: &CodedCondition) -> String {
        let vocabulary = &self.card.vocabulary;
        let written: Vec<&str> = coded.codes.iter().map(|code| vocabulary.name(*code)).collect();
        if written.is_empty() { vocabulary.perturbations[1].clone() } else { written.join(&self.card.rules.delimiter) }
    }

    /// A condition at its doses, with covariates; `given` replaces the latent term of one of these, whatever its
    /// value.
    ///
    /// # Errors
    /// Covariate values that were not trained, unless they are to be replaced.
    pub(super) fn target(
        &self,
        coded: &CodedCondition,
        covariates: Vec<String>,
        given: Option<(usize, CovariateTerm)>,
    ) -> Result<Target> {
        let Self { card, .. } = self;
        let named = covariates.iter().zip(&card.vocabulary.covariates).enumerate();
        let terms = named.map(|(at, (value, covariate))| match given {
            Some((given_at, term)) if given_at == at => Ok(term),
            _ => self.term(covariate, value),
        });
        let terms = terms.collect::<Result<_>>()?;
        let doses = coded.doses.clone().unwrap_or_else(|| vec![1.0; coded.codes.len()]);
        let condition = self.condition_name(coded);
        let dose = dose_label(&doses, &card.rules.delimiter);
        let mut parts: Vec<(u32, f64)> = if card.vocabulary.doses_as_written {
            sorted(&coded.codes).into_iter().zip(doses).collect()
        } else {
            coded.codes.iter().copied().zip(doses).collect()
        };
        parts.sort_by_key(|(code, _)| *code);
        let as_trained = covariates.iter().zip(&card.vocabulary.covariates);
        let as_trained: Vec<String> =
            as_trained.map(|(value, covariate)| covariate.stored(value).unwrap_or(value).to_owned()).collect();
        let extrapolation = self.trained.distance(&parts, &as_trained);
        if parts.is_empty() {
            parts.push((1, 1.0));
        }
        Ok(Target { condition, dose, parts, covariates, terms, extrapolation })
    }

    /// The latent term of a covariate value.
    fn term(&self, covariate: &Covariate, value: &str) -> Result<CovariateTerm> {
        let of_atlas = self.atlas.manifest().covariates.iter().find(|known| known.name == covariate.name);
        let unknown = || match of_atlas.is_some_and(|known| known.code(value).is_some()) {
            true => {
                let trained = covariate.values.iter().take(SHOWN_VALUES).map(String::as_str).collect::<Vec<_>>();
                let more = if covariate.values.len() > trained.len() { ", ..." } else { "" };
                let what = format!(
                    "the atlas has it, but the model was trained on other values: {}{more}",
                    trained.join(", ")
                );
                let hint = "use --unseen-covariate nearest or mean (of a batch also --batch average), or train on cells with it, too";
                Error::data(format!("{} `{value}`", covariate.name), what, hint)
            }
            false => Error::unknown("covariate value", value, covariate.values.iter().map(String::as_str)),
        };
        match (covariate.code(value), self.unseen_covariate) {
            (Some(code), _) => Ok(CovariateTerm::Value(code)),
            (None, OnUnseenCovariate::Error) => Err(unknown()),
            (None, OnUnseenCovariate::Mean) => Ok(CovariateTerm::Mean),
            (None, OnUnseenCovariate::Nearest) => {
                let nearest = self.nearest.nearest_to(covariate, value)?;
                covariate.code(&nearest).map(CovariateTerm::Value).ok_or_else(unknown)
            }
        }
    }
}

fn sorted(codes: &[u32]) -> Vec<u32> {
    let mut sorted = codes.to_vec();
    sorted.sort_unstable();
    sorted
}
