//! Turns requests into targets, each with the cells to start from.

use std::collections::{BTreeSet, HashMap, HashSet};

use model_card::ModelCard;
use reader::{
    atlas::Atlas,
    groups::{Group, Groups},
    selector::{ParsedSelector, Selector},
    split::SplitPart,
};
use schemas::{Error, Result, conditions::CONTROL, ids::ConditionId, skipped::Skipped, vocabulary::CovariateTerm};

use super::{
    BatchChoice, OnNoControl, OnUnseen, Query, Request,
    names::{CodedCondition, Names},
    source_contexts::{SourceContext, SourceContexts},
    target::{IsSource, Job, Start, Target, TargetKey, targets_per_job},
};

const NO_TRAINING_CONTROLS: &str =
    "no control with these covariates, of any batch, is among those that predictions start from";
const NO_SOURCE_CELLS: &str = "no source cells with these covariates";

/// The targets of a group that is evaluated.
pub(super) struct EvaluatedGroup {
    pub(super) contexts: Vec<Vec<u32>>,
    pub(super) source_cells: u64,
    pub(super) control: Target,
    pub(super) target: Target,
}

/// Collects targets.
pub(super) struct Resolver<'a> {
    card: &'a ModelCard,
    atlas: &'a Atlas,
    names: Names<'a>,
    contexts: SourceContexts,
    pending: Vec<(Start, Target)>,
    known_targets: HashSet<TargetKey>,
    skipped: Vec<Skipped>,
    /// Index of the batch covariate, and its latent term for every target.
    batch: Option<(usize, CovariateTerm)>,
    /// Index of the batch covariate, and the value that replaces that of every target.
    batch_value: Option<(usize, String)>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(card: &'a ModelCard, atlas: &'a Atlas, is_source: &IsSource, embedded: bool) -> Self {
        let names = Names::new(card, atlas, embedded);
        Self {
            card,
            atlas,
            names,
            contexts: SourceContexts::of_atlas(atlas, is_source, card.vocabulary.covariates.len()),
            pending: Vec::new(),
            known_targets: HashSet::new(),
            skipped: Vec::new(),
            batch: None,
            batch_value: None,
        }
    }

    /// Stores the settings of a query that apply to all its requests.
    pub(super) fn set_defaults(&mut self, query: &Query) -> Result<()> {
        self.names.unseen_covariate = query.unseen_covariate;
        let covariates = &self.card.vocabulary.covariates;
        if let Some(matching) = &query.matching {
            let place = |name: &String| {
                let known = || covariates.iter().map(|covariate| covariate.name.as_str());
                let place = |name: &str| known().position(|known| known == name);
                place(name)
                    .or_else(|| place(&self.atlas.name_in_atlas(name).ok()?))
                    .ok_or_else(|| Error::unknown("covariate", name, known()))
            };
            self.contexts.matching = matching.iter().map(place).collect::<Result<_>>()?;
        }
        if query.batch == BatchChoice::Source {
            return Ok(());
        }
        let at = self.card.vocabulary.batch_at().ok_or_else(|| {
            Error::usage(
                "the model has no batches",
                "leave out --batch, or train on an atlas ingested with --batch KEY",
            )
        })?;
        match &query.batch {
            BatchChoice::Source => {}
            BatchChoice::Average => self.batch = Some((at, CovariateTerm::Mean)),
            BatchChoice::LeftOut => self.batch = Some((at, CovariateTerm::Nothing)),
            BatchChoice::Value(value) => {
                let batch = &covariates[at];
                if batch.code(value).is_none() {
                    return Err(Error::unknown("batch", value, batch.values.iter().map(String::as_str)));
                }
                self.batch_value = Some((at, self.as_stored(at, value)));
                // All predictions are for one batch, so source cells of any batch can be used for each.
                self.contexts.matching.retain(|place| *place != at);
            }
        }
        Ok(())
    }

    /// A covariate value as the atlas writes it, or else as the model does, so that it is equal to that of the cells that have it.
    fn as_stored(&self, at: usize, value: &str) -> String {
        let covariates = [&self.atlas.manifest().covariates, &self.card.vocabulary.covariates];
        let stored = covariates.into_iter().find_map(|covariates| covariates[at].stored(value));
        stored.unwrap_or(value).to_owned()
    }

    /// Adds the targets of a request.
    pub(super) fn add(&mut self, request: &Request, query: &Query, groups: &Groups) -> Result<()> {
        match request {
            Request::Named(selector) => self.named(selector, query, groups),
            Request::Listed(selector, line) => self.named(selector, query, groups).map_err(|error| line.refused(error)),
            Request::Observed => self.groups(groups.all().iter(), query),
            Request::Ood => self.groups(groups.all().iter().filter(|group| group.cells_for(SplitPart::Ood) > 0), query),
            Request::Missing => self.missing(groups, query),
            Request::Pairs => self.pairs(groups, query),
            Request::All => {
                self.groups(groups.all().iter(), query)?;
                self.missing(groups, query)
            }
        }
    }

    fn groups<'g>(&mut self, groups: impl Iterator<Item = &'g Group>, query: &Query) -> Result<()> {
        let mut perturbed: Vec<&Group> = groups.filter(|group| group.condition != CONTROL).collect();
        let atlas = self.atlas;
        let table = &atlas.manifest().conditions;
        perturbed.sort_by(|one, other| table.listing_order(one.condition, other.condition));
        for group in perturbed {
            self.known(group.condition, &group.covariates, query)?;
        }
        Ok(())
    }

    fn missing(&mut self, groups: &Groups, query: &Query) -> Result<()> {
        let observed: HashSet<(u32, &[u32])> =
            groups.all().iter().map(|group| (group.condition.0, group.covariates.as_slice())).collect();
        let contexts = groups.contexts();
        let atlas = self.atlas;
        let table = &atlas.manifest().conditions;
        let mut perturbed: Vec<ConditionId> = (1..table.conditions().len()).map(ConditionId::at).collect();
        perturbed.sort_by(|one, other| table.listing_order(*one, *other));
        for id in perturbed {
            for context in contexts.iter().filter(|context| !observed.contains(&(id.0, context.as_slice()))) {
                self.known(id, context, query)?;
            }
        }
        Ok(())
    }

    fn pairs(&mut self, groups: &Groups, query: &Query) -> Result<()> {
        let combinations: BTreeSet<&str> = self.card.vocabulary.combinations.iter().map(String::as_str).collect();
        let trained_alone = |name: &&String| combinations.contains(name.as_str());
        let singles: Vec<&String> = self.card.vocabulary.perturbations.iter().skip(2).filter(trained_alone).collect();
        let delimiter = &self.card.rules.delimiter;
        for (at, first) in singles.iter().enumerate() {
            for second in &singles[at + 1..] {
                let coded = self.names.read(&format!("{first}{delimiter}{second}"), Some(&format!("1{delimiter}1")))?;
                for context in groups.contexts() {
                    self.beside(&coded, self.atlas.covariate_values(&context), query)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a condition of the atlas, predicted from the cells with its own covariates.
    fn known(&mut self, id: ConditionId, context: &[u32], query: &Query) -> Result<()> {
        let table = &self.atlas.manifest().conditions;
        let covariates = self.atlas.covariate_values(context);
        match self.names.read(table.name(id), Some(&table.dose_label(id))) {
            Ok(coded) => self.beside(&coded, covariates, query),
            Err(error) => self.unknown(table.name(id), &covariates, error, query),
        }
    }

    /// Adds a named condition, in every context that matches the requested covariates. These select the cells to start from, too;
    /// those that `--from` names, unless `--match` does, are replaced instead.
    fn named(&mut self, selector: &Selector, query: &Query, groups: &Groups) -> Result<()> {
        let ParsedSelector { condition, dose, covariates: requested } = selector.named(self.atlas)?;
        let requested: Vec<(usize, String)> =
            requested.into_iter().map(|(at, value)| (at, self.as_stored(at, value))).collect();
        if let Some((batch, value)) = &self.batch_value
            && requested.iter().any(|(at, asked)| at == batch && asked != value)
        {
            let message = format!("`{selector}` names another batch than --batch {value}");
            return Err(Error::usage(message, "name the same batch, or leave out one of them"));
        }
        let condition = condition.ok_or_else(|| {
            Error::usage(format!("`{selector}` names no condition"), "write --to 'condition=A+B,dose=1+0.5'")
        })?;
        let coded = match self.names.read(condition, dose) {
            Ok(coded) => self.names.at_doses(&coded),
            Err(error) => return self.unknown(condition, &[], error, query),
        };
        let laid_over = |context: &SourceContext| {
            let mut values = context.values.clone();
            requested.iter().for_each(|(at, value)| values[*at].clone_from(value));
            self.with_batch(values)
        };
        let mut targets: Vec<(Start, Vec<String>)> = match &query.from {
            Some(from) => {
                let replaced = match query.matching {
                    Some(_) => Vec::new(),
                    None => from.named(self.atlas)?.covariates.into_iter().map(|(at, _)| at).collect(),
                };
                let mut known = HashSet::new();
                let all = self.contexts.all.iter().map(laid_over).filter(|values| known.insert(values.clone()));
                let start_of = |values: Vec<String>| match self.contexts.sharing(&values, &replaced) {
                    none if none.is_empty() => (Start::Matching(values.clone()), values),
                    places => (Start::In(places), values),
                };
                all.map(start_of).collect()
            }
            None => {
                let fits = |context: &&SourceContext| requested.iter().all(|(at, value)| context.values[*at] == *value);
                let fitting = self.contexts.all.iter().filter(fits);
                fitting.map(|context| (Start::Matching(context.values.clone()), context.values.clone())).collect()
            }
        };
        // A combination that was not named explicitly is not a reason to refuse the others.
        let is_open = query.from.is_none() && !targets.is_empty();
        let lacking = if is_open { self.without_sources(&requested, groups) } else { Vec::new() };
        if targets.is_empty() {
            let mut values: Vec<Vec<String>> = self.contexts.all.iter().map(laid_over).collect();
            values.sort();
            values.dedup();
            targets = values.into_iter().map(|values| (Start::Matching(values.clone()), values)).collect();
        }
        if targets.is_empty() {
            return Err(self.no_source("any covariates"));
        }
        for (start, values) in targets {
            for coded in &coded {
                self.target(start.clone(), coded, values.clone(), query)?;
            }
        }
        for (values, coded) in lacking.iter().flat_map(|values| coded.iter().map(move |coded| (values, coded))) {
            match query.no_control {
                OnNoControl::Borrow => self.beside(coded, values.clone(), query)?,
                OnNoControl::Error | OnNoControl::Skip => {
                    self.skip(&self.names.condition_name(coded), values, NO_SOURCE_CELLS.into());
                }
            }
        }
        Ok(())
    }

    /// The covariate combinations of the atlas that have these values but no source cells.
    fn without_sources(&self, requested: &[(usize, String)], groups: &Groups) -> Vec<Vec<String>> {
        let contexts = groups.contexts().into_iter().filter(|codes| self.contexts.place(codes).is_none());
        let mut all: Vec<Vec<String>> = contexts.map(|codes| self.atlas.covariate_values(&codes)).collect();
        all.retain(|values| requested.iter().all(|(at, value)| values[*at] == *value));
        all.retain(|values| self.contexts.look_for_sources(values, OnNoControl::Error).is_empty());
        all
    }

    /// Adds a condition with covariates, predicted from the cells that match them.
    fn beside(&mut self, coded: &CodedCondition, covariates: Vec<String>, query: &Query) -> Result<()> {
        self.target(Start::Matching(covariates.clone()), coded, covariates, query)
    }

    /// Covariate values with the batch to predict for, if there is one for all targets.
    fn with_batch(&self, mut values: Vec<String>) -> Vec<String> {
        if let Some((at, value)) = &self.batch_value {
            values[*at].clone_from(value);
        }
        values
    }

    fn target(&mut self, start: Start, coded: &CodedCondition, covariates: Vec<String>, query: &Query) -> Result<()> {
        let covariates = self.with_batch(covariates);
        let start = match start {
            Start::In(places) => Start::In(places),
            Start::Matching(values) => {
                let values = self.with_batch(values);
                match self.contexts.sources(&values, query.no_control) {
                    none if none.is_empty() => Start::Matching(values),
                    places => Start::In(places),
                }
            }
        };
        match self.names.target(coded, covariates.clone(), self.batch) {
            Ok(target) => {
                let parts = target.parts.iter().map(|(code, dose)| (*code, dose.to_bits())).collect();
                if self.known_targets.insert(TargetKey { start: start.clone(), parts, covariates }) {
                    self.pending.push((start, target));
                }
                Ok(())
            }
            Err(error @ Error::Unknown { .. }) => {
                self.unknown(&self.names.condition_name(coded), &covariates, error, query)
            }
            Err(error) => Err(error),
        }
    }

    /// Handles a name that was not trained: refuses or skips the request, according to the query.
    fn unknown(&mut self, condition: &str, covariates: &[String], error: Error, query: &Query) -> Result<()> {
        match (&error, query.unseen) {
            (Error::Unknown { .. } | Error::Data { .. }, OnUnseen::Skip) => {
                self.skip(condition, covariates, error.to_string());
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// The targets of a group that is evaluated; the group is skipped if it can't be predicted.
    pub(super) fn evaluated(&mut self, group: &Group) -> Option<EvaluatedGroup> {
        let table = &self.atlas.manifest().conditions;
        let (name, covariates) = (table.name(group.condition), self.atlas.covariate_values(&group.covariates));
        // A batch without controls is predicted from the controls of the other batches.
        let context = self.atlas.context_of(&group.covariates);
        let sources: Vec<&SourceContext> = match self.contexts.place(&group.covariates) {
            Some(at) => vec![&self.contexts.all[at]],
            None => self.contexts.all.iter().filter(|source| self.atlas.context_of(&source.codes) == context).collect(),
        };
        if sources.is_empty() {
            self.skip(name, &covariates, NO_TRAINING_CONTROLS.into());
            return None;
        }
        let contexts = sources.iter().map(|source| source.codes.clone()).collect();
        let source_cells = sources.iter().map(|source| source.cells).sum();
        let target_of = |id: ConditionId| {
            let coded = self.names.read(table.name(id), Some(&table.dose_label(id)))?;
            self.names.target(&coded, covariates.clone(), None)
        };
        match (target_of(CONTROL), target_of(group.condition)) {
            (Ok(control), Ok(target)) => Some(EvaluatedGroup { contexts, source_cells, control, target }),
            (Err(error), _) | (_, Err(error)) => {
                self.skip(name, &covariates, error.to_string());
                None
            }
        }
    }

    /// Returns the targets as jobs, and the skipped requests.
    pub(super) fn finish(mut self, no_control: OnNoControl) -> Result<(Vec<Job>, Vec<Skipped>)> {
        let most_targets = targets_per_job(self.card.genes.len());
        let mut jobs: Vec<Job> = Vec::new();
        let mut open: HashMap<Vec<usize>, usize> = HashMap::new();
        for (start, target) in std::mem::take(&mut self.pending) {
            let Start::In(sources) = start else {
                if no_control == OnNoControl::Skip {
                    self.skip(&target.condition, &target.covariates, NO_SOURCE_CELLS.into());
                    continue;
                }
                let names = &self.card.vocabulary.covariates;
                let pair = |at: &usize| format!("{}={}", names[*at].name, target.covariates[*at]);
                return Err(self.no_source(&self.contexts.matching.iter().map(pair).collect::<Vec<_>>().join(",")));
            };
            let has_room = |job: &usize| jobs[*job].targets.len() < most_targets;
            let job = open.get(&sources).copied().filter(has_room).unwrap_or_else(|| {
                let source_cells = sources.iter().map(|at| self.contexts.all[*at].cells).sum();
                let contexts = sources.iter().map(|at| self.contexts.all[*at].codes.clone()).collect();
                jobs.push(Job { contexts, source_cells, targets: Vec::new() });
                open.insert(sources, jobs.len() - 1);
                jobs.len() - 1
            });
            jobs[job].targets.push(target);
        }
        Ok((jobs, self.skipped))
    }

    /// Notes a condition that is left out, once for all of its doses.
    fn skip(&mut self, condition: &str, covariates: &[String], why: String) {
        let names = self.card.vocabulary.covariates.iter().map(|covariate| covariate.name.clone());
        let covariates = names.zip(covariates.iter().cloned()).collect();
        let skipped = Skipped { condition: condition.to_owned(), covariates, why };
        if self.skipped.last() != Some(&skipped) {
            self.skipped.push(skipped);
        }
    }

    fn no_source(&self, covariates: &str) -> Error {
        if self.contexts.all.is_empty() {
            let message = "there are no cells to start from: it has no controls, or none that --from selects";
            return Error::data(self.atlas.path().display().to_string(), message, "choose others with --from");
        }
        let message = format!("there are no source cells with {covariates}");
        let hint = "choose the source cells with --from, the covariates that they must share with --match, or skip or borrow with \
                    --no-control";
        Error::data(self.atlas.path().display().to_string(), message, hint)
    }
}
