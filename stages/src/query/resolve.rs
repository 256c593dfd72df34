//! Requests become targets, each with the cells it starts from.

use std::collections::{BTreeSet, HashMap, HashSet};

use schemas::{
    Error, Result,
    conditions::CONTROL,
    ids::{CellIndex, ConditionId},
};

use super::{
    BatchChoice, BatchTerm, Job, OnUnknown, OnUnseen, Query, Request, Skipped, Target,
    jobs::{IsSource, TARGETS_PER_JOB},
    names::{Coded, Names},
};
use crate::{
    atlas::Atlas,
    groups::{Group, Groups, Named, Selector},
    saved::Card,
    split::Part,
};

/// What makes two requests one: the source's covariates, codes and bits of the doses, the target's covariates.
type Asked = (Vec<u32>, Vec<(u32, u64)>, Vec<u32>);

/// Collects targets.
pub(super) struct Resolver<'a> {
    card: &'a Card,
    atlas: &'a Atlas,
    names: Names<'a>,
    /// Covariate combinations that have source cells, and how many, in the order of their first cells.
    contexts: Vec<(Vec<u32>, u64)>,
    context_at: HashMap<Vec<u32>, usize>,
    wanted: Vec<(Vec<u32>, Target)>,
    seen: HashSet<Asked>,
    skipped: Vec<Skipped>,
    batch: BatchTerm,
    /// Place and value of a batch that is laid over every target's.
    batch_value: Option<(usize, String)>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(card: &'a Card, atlas: &'a Atlas, is_source: &IsSource, embedded: bool) -> Self {
        let mut contexts: Vec<(Vec<u32>, u64)> = Vec::new();
        let mut context_at: HashMap<Vec<u32>, usize> = HashMap::new();
        for cell in (0..atlas.cells()).map(CellIndex).filter(|cell| is_source(*cell)) {
            let codes = atlas.covariates(cell);
            match context_at.get(codes) {
                Some(at) => contexts[*at].1 += 1,
                None => {
                    context_at.insert(codes.to_vec(), contexts.len());
                    contexts.push((codes.to_vec(), 1));
                }
            }
        }
        let names = Names::new(card, atlas, embedded);
        Self {
            card,
            atlas,
            names,
            contexts,
            context_at,
            wanted: Vec::new(),
            seen: HashSet::new(),
            skipped: Vec::new(),
            batch: BatchTerm::Own,
            batch_value: None,
        }
    }

    /// Decides which batch is predicted for.
    pub(super) fn set_batch(&mut self, choice: &BatchChoice) -> Result<()> {
        if *choice == BatchChoice::Source {
            return Ok(());
        }
        let at = self.card.vocabulary.batch_at().ok_or_else(|| {
            Error::usage(
                "the model knows no batch",
                "leave --batch out, or train on an atlas ingested with --batch KEY",
            )
        })?;
        match choice {
            BatchChoice::Source => {}
            BatchChoice::Average => self.batch = BatchTerm::Average,
            BatchChoice::LeftOut => self.batch = BatchTerm::LeftOut,
            BatchChoice::Value(value) => {
                let batch = &self.card.vocabulary.covariates[at];
                if batch.code(value).is_none() {
                    return Err(Error::unknown("batch", value, batch.values.iter().map(String::as_str)));
                }
                self.batch_value = Some((at, value.clone()));
            }
        }
        Ok(())
    }

    /// Adds what a request stands for.
    pub(super) fn add(&mut self, request: &Request, query: &Query, groups: &Groups) -> Result<()> {
        match request {
            Request::Named(selector) => self.named(selector, query),
            Request::Observed => self.groups(groups.all().iter(), query),
            Request::Ood => self.groups(groups.all().iter().filter(|group| 0 < group.cells_for(Part::Ood)), query),
            Request::Missing => self.missing(groups, query),
            Request::Pairs => self.pairs(groups, query),
            Request::All => {
                self.groups(groups.all().iter(), query)?;
                self.missing(groups, query)
            }
        }
    }

    fn groups<'g>(&mut self, groups: impl Iterator<Item = &'g Group>, query: &Query) -> Result<()> {
        for group in groups.filter(|group| group.condition != CONTROL) {
            self.known(group.condition, &group.covariates, query)?;
        }
        Ok(())
    }

    fn missing(&mut self, groups: &Groups, query: &Query) -> Result<()> {
        let observed: HashSet<(u32, &[u32])> =
            groups.all().iter().map(|group| (group.condition.0, group.covariates.as_slice())).collect();
        let contexts = groups.contexts();
        for id in (1..self.atlas.manifest().conditions.conditions().len()).map(ConditionId::at) {
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
                    let covariates = self.atlas.covariate_values(&context);
                    self.target(&context, &coded, covariates, query)?;
                }
            }
        }
        Ok(())
    }

    /// A condition of the atlas, from the cells of its own covariates.
    fn known(&mut self, id: ConditionId, context: &[u32], query: &Query) -> Result<()> {
        let table = &self.atlas.manifest().conditions;
        let covariates = self.atlas.covariate_values(context);
        match self.names.read(table.name(id), Some(&table.dose_label(id))) {
            Ok(coded) => self.target(context, &coded, covariates, query),
            Err(error) => self.unknown(table.name(id), &covariates, error, query),
        }
    }

    /// A condition that was spelt out: from every context that fits `--from`, its own covariates laid over them.
    fn named(&mut self, selector: &Selector, query: &Query) -> Result<()> {
        let Named { condition, dose, covariates: laid_over } = selector.named(self.atlas.manifest())?;
        let condition = condition.ok_or_else(|| {
            Error::usage(format!("`{selector}` names no condition"), "write --to 'condition=A+B,dose=1+0.5'")
        })?;
        let coded = match self.names.read(condition, dose) {
            Ok(coded) => self.names.at_doses(&coded),
            Err(error) => return self.unknown(condition, &[], error, query),
        };
        for (at, value) in &laid_over {
            let covariate = &self.card.vocabulary.covariates[*at];
            if covariate.code(value).is_none() {
                let error = Error::unknown("covariate value", value, covariate.values.iter().map(String::as_str));
                return self.unknown(condition, &[], error, query);
            }
        }
        let mut any = false;
        for context in self.contexts.iter().map(|(context, _)| context.clone()).collect::<Vec<_>>() {
            let own = self.atlas.covariate_values(&context);
            let mut covariates = own.clone();
            for (at, value) in &laid_over {
                covariates[*at] = (*value).to_owned();
            }
            // Without --from, a covariate that the target names also says which controls to start from.
            if query.from.is_none() && own != covariates {
                continue;
            }
            any = true;
            for coded in &coded {
                self.target(&context, coded, covariates.clone(), query)?;
            }
        }
        if any {
            return Ok(());
        }
        let covariates = &self.atlas.manifest().covariates;
        let asked: Vec<String> =
            laid_over.iter().map(|(at, value)| format!("{}={value}", covariates[*at].name)).collect();
        let asked = if asked.is_empty() { "any covariates".to_owned() } else { asked.join(",") };
        match query.no_control {
            OnUnknown::Error => Err(self.no_source(&asked)),
            OnUnknown::Skip => {
                self.skip(condition, &[], format!("no source cells with {asked}"));
                Ok(())
            }
        }
    }

    fn target(&mut self, context: &[u32], coded: &Coded, mut covariates: Vec<String>, query: &Query) -> Result<()> {
        if let Some((at, value)) = &self.batch_value {
            covariates[*at].clone_from(value);
        }
        match self.names.target(coded, covariates.clone()) {
            Ok(target) => {
                let target = Target { batch: self.batch, ..target };
                let parts = target.parts.iter().map(|(code, dose)| (*code, dose.to_bits())).collect();
                if self.seen.insert((context.to_vec(), parts, target.covariate_codes.clone())) {
                    self.wanted.push((context.to_vec(), target));
                }
                Ok(())
            }
            Err(error) => self.unknown("", &covariates, error, query),
        }
    }

    /// A name that was not trained on: refused or skipped, as the query says.
    fn unknown(&mut self, condition: &str, covariates: &[String], error: Error, query: &Query) -> Result<()> {
        match (&error, query.unseen) {
            (Error::Unknown { .. }, OnUnseen::Skip) => {
                self.skip(condition, covariates, error.to_string());
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Source cells, control and target of a group that is judged; skipped where it can't be predicted.
    pub(super) fn judged(&mut self, group: &Group) -> Option<(u64, Target, Target)> {
        let table = &self.atlas.manifest().conditions;
        let (name, covariates) = (table.name(group.condition), self.atlas.covariate_values(&group.covariates));
        let Some(at) = self.context_at.get(&group.covariates) else {
            self.skip(name, &covariates, "no training controls with these covariates".into());
            return None;
        };
        let source_cells = self.contexts[*at].1;
        let target_of = |id: ConditionId| {
            let coded = self.names.read(table.name(id), Some(&table.dose_label(id)))?;
            self.names.target(&coded, covariates.clone())
        };
        match (target_of(CONTROL), target_of(group.condition)) {
            (Ok(control), Ok(target)) => Some((source_cells, control, target)),
            (Err(error), _) | (_, Err(error)) => {
                self.skip(name, &covariates, error.to_string());
                None
            }
        }
    }

    /// The targets as jobs, and what was skipped.
    pub(super) fn finish(mut self, no_control: OnUnknown) -> Result<(Vec<Job>, Vec<Skipped>)> {
        let mut jobs: Vec<Job> = Vec::new();
        let mut open: HashMap<usize, usize> = HashMap::new();
        for (context, target) in std::mem::take(&mut self.wanted) {
            let Some(at) = self.context_at.get(&context).copied() else {
                if no_control == OnUnknown::Error {
                    let pairs = self.card.vocabulary.covariates.iter().zip(&target.covariates);
                    let pairs: Vec<String> =
                        pairs.map(|(covariate, value)| format!("{}={value}", covariate.name)).collect();
                    return Err(self.no_source(&pairs.join(",")));
                }
                self.skip(&target.condition, &target.covariates, "no source cells with these covariates".into());
                continue;
            };
            let job =
                open.get(&at).copied().filter(|job| jobs[*job].targets.len() < TARGETS_PER_JOB).unwrap_or_else(|| {
                    jobs.push(Job { context, source_cells: self.contexts[at].1, targets: Vec::new() });
                    open.insert(at, jobs.len() - 1);
                    jobs.len() - 1
                });
            jobs[job].targets.push(target);
        }
        Ok((jobs, self.skipped))
    }

    fn skip(&mut self, condition: &str, covariates: &[String], why: String) {
        let names = self.card.vocabulary.covariates.iter().map(|covariate| covariate.name.clone());
        let covariates = names.zip(covariates.iter().cloned()).collect();
        self.skipped.push(Skipped { condition: condition.to_owned(), covariates, why });
    }

    fn no_source(&self, covariates: &str) -> Error {
        let message = format!("there are no source cells with {covariates}");
        let hint = "say which cells to start from with --from, or skip such targets with --no-control skip";
        Error::data(self.atlas.path().display().to_string(), message, hint)
    }
}
