//! What would these cells be under that condition? Requests by name become jobs that a predictor can run.

use std::{collections::BTreeSet, path::Path};

use schemas::{
    Error, Result,
    conditions::{CONTROL, parse},
    ids::CellIndex,
};
use serde::Serialize;

use crate::{
    atlas::Atlas,
    groups::{Groups, Selector},
    profiles::first_half,
    saved::Card,
    split::{Part, Split},
    vocabulary::Vocabulary,
};

/// Targets that are predicted together: bounds the sums that a predictor holds.
const TARGETS_PER_JOB: usize = 256;

/// Which conditions to go to.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// One condition by name, with its dose and covariates where they are given.
    Named(Selector),
    /// Every condition and covariate combination that the atlas has cells of.
    Observed,
    /// Every known condition in every covariate combination that the atlas has no cells of.
    Missing,
    /// What the model's split holds out.
    Ood,
    /// Every pair of single perturbations that were trained on.
    Pairs,
    /// Observed and missing ones.
    All,
}

impl Request {
    /// Reads `--to`: a word, a CSV file, or `condition=A+B,dose=1+0.5`.
    ///
    /// # Errors
    /// A file that can't be read, text that is none of them.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        Ok(match text {
            "observed" => vec![Self::Observed],
            "missing" => vec![Self::Missing],
            "ood" => vec![Self::Ood],
            "pairs" => vec![Self::Pairs],
            "all" => vec![Self::All],
            file if file.ends_with(".csv") => read_csv(Path::new(file))?,
            named => vec![Self::Named(Selector::parse(named)?)],
        })
    }
}

/// What to do with a name that the model was not trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Refuse the whole query.
    #[default]
    Error,
    /// Skip the request, and say so.
    Skip,
}

/// A prediction that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Which conditions to go to.
    pub to: Vec<Request>,
    /// Which cells to start from; the controls of each covariate combination where nothing is said.
    pub from: Option<Selector>,
    /// Names that were not trained on.
    pub unseen: OnUnknown,
    /// Covariate combinations without source cells.
    pub no_control: OnUnknown,
    /// Source cells of a covariate combination at most, evenly spread; all where nothing is said.
    pub cells_per_condition: Option<u64>,
}

/// How far a prediction goes beyond what was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extrapolation {
    /// Condition, doses and covariates were trained on together.
    Seen,
    /// The combination was trained on in these covariates, at other doses.
    Dose,
    /// Its perturbations were trained on, but not together.
    Combination,
    /// Everything was trained on, but not this condition in these covariates.
    CovariateCombination,
    /// These covariate values were never trained on together.
    Covariate,
}

impl Extrapolation {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Dose => "dose",
            Self::Combination => "combination",
            Self::CovariateCombination => "covariate_combination",
            Self::Covariate => "covariate",
        }
    }

    fn of(vocabulary: &Vocabulary, parts: &[(u32, f64)], covariates: &[String]) -> Self {
        let codes: Vec<u32> = parts.iter().map(|(code, _)| *code).collect();
        let doses: Vec<f64> = parts.iter().map(|(_, dose)| *dose).collect();
        let trained = || vocabulary.trained.iter();
        let here = |group: &&crate::vocabulary::TrainedGroup| group.covariates == covariates;
        if trained().filter(here).any(|group| group.perturbations == codes && group.doses == doses) {
            Self::Seen
        } else if !trained().any(|group| here(&group)) {
            Self::Covariate
        } else if trained().filter(here).any(|group| group.perturbations == codes) {
            Self::Dose
        } else if trained().any(|group| group.perturbations == codes) {
            Self::CovariateCombination
        } else {
            Self::Combination
        }
    }
}

/// One prediction: a condition at doses, in a covariate combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The condition's name.
    pub condition: String,
    /// Its doses, aligned with the name.
    pub dose: String,
    /// Codes of its perturbations in the model's vocabulary, and their doses; control is its own entry.
    pub parts: Vec<(u32, f64)>,
    /// The value of every covariate.
    pub covariates: Vec<String>,
    /// The model's codes of them.
    pub covariate_codes: Vec<u32>,
    /// How far it goes.
    pub extrapolation: Extrapolation,
}

/// Source cells, and the targets that are predicted from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The source cells' covariate codes in the atlas.
    pub context: Vec<u32>,
    /// How many source cells there are.
    pub source_cells: u64,
    /// What to predict.
    pub targets: Vec<Target>,
}

/// A request that was not run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// The condition.
    pub condition: String,
    /// Its covariates, by name.
    pub covariates: std::collections::BTreeMap<String, String>,
    /// Why.
    pub why: String,
}

/// Decides which cells predictions start from.
pub type IsSource = std::sync::Arc<dyn Fn(CellIndex) -> bool + Send + Sync>;

/// A query in terms of a model and an atlas.
#[derive(Clone)]
pub struct Jobs {
    /// What to run, one after the other.
    pub jobs: Vec<Job>,
    /// What is not run.
    pub skipped: Vec<Skipped>,
    /// Source cells, whatever their covariates.
    pub is_source: IsSource,
    /// At most so many source cells a job.
    pub cells_per_condition: Option<u64>,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("jobs", &self.jobs).field("skipped", &self.skipped).finish_non_exhaustive()
    }
}

impl Jobs {
    /// Resolves a query.
    ///
    /// # Errors
    /// Names that the model or the atlas does not know, covariates without source cells, unless they are to be skipped.
    pub fn resolve(query: &Query, card: &Card, atlas: &Atlas, split: Option<&Split>) -> Result<Self> {
        check_genes(card, atlas)?;
        let matches = query.from.as_ref().map(|selector| selector.on(atlas)).transpose()?;
        let source_atlas = atlas.clone();
        let is_source: IsSource = match matches {
            Some(matches) => std::sync::Arc::new(move |cell| matches(source_atlas.codes(cell))),
            None => std::sync::Arc::new(move |cell| source_atlas.condition(cell) == CONTROL),
        };
        let mut resolver = Resolver {
            card,
            atlas,
            sources: Sources::count(atlas, &is_source),
            wanted: Vec::new(),
            skipped: Vec::new(),
        };
        let groups = Groups::of(atlas, split);
        for request in &query.to {
            resolver.add(request, query, &groups)?;
        }
        let jobs = resolver.jobs(query.no_control)?;
        Ok(Self { jobs, skipped: resolver.skipped, is_source, cells_per_condition: query.cells_per_condition })
    }

    /// What an evaluation asks: every condition of the `judged` part, and control beside it, predicted from the controls
    /// of the first half. With each target comes its group; control's is none. Conditions that can't be predicted are
    /// skipped.
    #[must_use]
    pub fn to_judge(
        card: &Card,
        atlas: &Atlas,
        groups: &Groups,
        split: std::sync::Arc<Split>,
        judged: Part,
    ) -> (Self, Vec<Vec<Option<usize>>>) {
        let source_atlas = atlas.clone();
        let is_source: IsSource = std::sync::Arc::new(move |cell| {
            source_atlas.condition(cell) == CONTROL && split.part(cell) == Part::Train && first_half(cell)
        });
        let mut resolver = Resolver {
            card,
            atlas,
            sources: Sources::count(atlas, &is_source),
            wanted: Vec::new(),
            skipped: Vec::new(),
        };
        let table = &atlas.manifest().conditions;
        let mut jobs: Vec<Job> = Vec::new();
        let mut groups_of: Vec<Vec<Option<usize>>> = Vec::new();
        for (at, group) in groups
            .all()
            .iter()
            .enumerate()
            .filter(|(_, group)| 0 < group.cells_for(judged) && group.condition != CONTROL)
        {
            let (name, dose, covariates) =
                (table.name(group.condition), table.dose_label(group.condition), resolver.values(&group.covariates));
            let source_cells = resolver
                .sources
                .contexts
                .iter()
                .find(|(context, _)| *context == group.covariates)
                .map_or(0, |(_, cells)| *cells);
            let (target, control) = match (
                resolver.target(name, Some(&dose), covariates.clone()),
                resolver.target(&card.rules.controls[0], None, covariates.clone()),
            ) {
                _ if source_cells == 0 => {
                    resolver.skip(name, &covariates, "no training controls with these covariates".into());
                    continue;
                }
                (Ok(target), Ok(control)) => (target, control),
                (Err(error), _) | (_, Err(error)) => {
                    resolver.skip(name, &covariates, error.to_string());
                    continue;
                }
            };
            let open =
                jobs.iter().position(|job| job.context == group.covariates && job.targets.len() < TARGETS_PER_JOB);
            let job = open.unwrap_or_else(|| {
                jobs.push(Job { context: group.covariates.clone(), source_cells, targets: vec![control] });
                groups_of.push(vec![None]);
                jobs.len() - 1
            });
            jobs[job].targets.push(target);
            groups_of[job].push(Some(at));
        }
        let skipped = resolver.skipped;
        (Self { jobs, skipped, is_source, cells_per_condition: None }, groups_of)
    }

    /// How many predictions there are.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.jobs.iter().map(|job| job.targets.len()).sum()
    }

    /// The source cells of a job, ascending.
    pub fn source_cells(&self, job: usize, atlas: &Atlas) -> impl Iterator<Item = CellIndex> + Send + use<> {
        let Job { context, source_cells, .. } = self.jobs[job].clone();
        let (atlas, is_source) = (atlas.clone(), std::sync::Arc::clone(&self.is_source));
        let wanted = self.cells_per_condition.unwrap_or(u64::MAX).min(source_cells);
        let of_job = (0..atlas.cells())
            .map(CellIndex)
            .filter(move |cell| atlas.covariates(*cell) == context && is_source(*cell));
        // Evenly spread: the n-th cell is taken whenever n·wanted/all steps over an integer.
        of_job
            .enumerate()
            .filter(move |(n, _)| {
                let (n, all, wanted) = (*n as u128, u128::from(source_cells), u128::from(wanted));
                (n * wanted) / all != ((n + 1) * wanted) / all
            })
            .map(|(_, cell)| cell)
    }
}

struct Sources {
    /// Covariate combinations that have source cells, and how many.
    contexts: Vec<(Vec<u32>, u64)>,
}

impl Sources {
    fn count(atlas: &Atlas, is_source: &IsSource) -> Self {
        let mut counts: std::collections::HashMap<&[u32], usize> = std::collections::HashMap::new();
        let mut contexts: Vec<(Vec<u32>, u64)> = Vec::new();
        for cell in (0..atlas.cells()).map(CellIndex).filter(|cell| is_source(*cell)) {
            let codes = atlas.covariates(cell);
            let at = *counts.entry(codes).or_insert_with(|| {
                contexts.push((codes.to_vec(), 0));
                contexts.len() - 1
            });
            contexts[at].1 += 1;
        }
        Self { contexts }
    }
}

struct Resolver<'a> {
    card: &'a Card,
    atlas: &'a Atlas,
    sources: Sources,
    /// Targets with the covariate codes (of the atlas) of the cells they start from.
    wanted: Vec<(Vec<u32>, Target)>,
    skipped: Vec<Skipped>,
}

impl Resolver<'_> {
    fn add(&mut self, request: &Request, query: &Query, groups: &Groups) -> Result<()> {
        let table = &self.atlas.manifest().conditions;
        match request {
            Request::Named(selector) => self.named(selector, query),
            Request::Observed => {
                for group in groups.all().iter().filter(|group| group.condition != CONTROL) {
                    self.enumerated(
                        table.name(group.condition),
                        &table.dose_label(group.condition),
                        &group.covariates,
                        query,
                    )?;
                }
                Ok(())
            }
            Request::Ood => {
                for group in
                    groups.all().iter().filter(|group| 0 < group.cells_for(Part::Ood) && group.condition != CONTROL)
                {
                    self.enumerated(
                        table.name(group.condition),
                        &table.dose_label(group.condition),
                        &group.covariates,
                        query,
                    )?;
                }
                Ok(())
            }
            Request::Missing => {
                let observed: BTreeSet<(u32, &[u32])> =
                    groups.all().iter().map(|group| (group.condition.0, group.covariates.as_slice())).collect();
                let contexts = groups.contexts();
                for (at, _) in table.conditions().iter().enumerate().skip(1) {
                    let id = schemas::ids::ConditionId::at(at);
                    for context in &contexts {
                        if !observed.contains(&(id.0, context.as_slice())) {
                            self.enumerated(table.name(id), &table.dose_label(id), context, query)?;
                        }
                    }
                }
                Ok(())
            }
            Request::Pairs => {
                let contexts = groups.contexts();
                let singles: BTreeSet<&str> = table
                    .combinations()
                    .iter()
                    .filter(|combination| combination.perturbations.len() == 1)
                    .map(|combination| combination.name.as_str())
                    .collect();
                let singles: Vec<&str> = singles
                    .into_iter()
                    .filter(|name| self.card.vocabulary.combinations.iter().any(|known| known == name))
                    .collect();
                for (at, first) in singles.iter().enumerate() {
                    for second in &singles[at + 1..] {
                        let delimiter = &self.card.rules.delimiter;
                        for context in &contexts {
                            self.enumerated(
                                &format!("{first}{delimiter}{second}"),
                                &format!("1{delimiter}1"),
                                context,
                                query,
                            )?;
                        }
                    }
                }
                Ok(())
            }
            Request::All => {
                self.add(&Request::Observed, query, groups)?;
                self.add(&Request::Missing, query, groups)
            }
        }
    }

    /// A target that a word stands for: starts from the cells of its own covariates.
    fn enumerated(&mut self, condition: &str, dose: &str, context: &[u32], query: &Query) -> Result<()> {
        let covariates = self.values(context);
        match self.target(condition, Some(dose), covariates.clone()) {
            Ok(target) => self.push(context.to_vec(), target),
            Err(error @ Error::Unknown { .. }) if query.unseen == OnUnknown::Skip => {
                self.skip(condition, &covariates, error.to_string())
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A target that was spelt out: starts from every context that fits `--from`, its own covariates laid over them.
    fn named(&mut self, selector: &Selector, query: &Query) -> Result<()> {
        let manifest = self.atlas.manifest();
        let keys = &manifest.keys;
        let is_condition = |key: &str| key == "condition" || keys.perturbation.as_deref() == Some(key);
        let is_dose = |key: &str| key == "dose" || keys.dose.as_deref() == Some(key);
        let condition = selector.0.iter().find(|(key, _)| is_condition(key)).map(|(_, value)| value.clone());
        let condition = condition.ok_or_else(|| {
            Error::usage(format!("`{selector}` names no condition"), "write --to 'condition=A+B,dose=1+0.5'")
        })?;
        let dose = selector.0.iter().find(|(key, _)| is_dose(key)).map(|(_, value)| value.as_str());
        let mut laid_over: Vec<(usize, &str)> = Vec::new();
        for (key, value) in selector.0.iter().filter(|(key, _)| !is_condition(key) && !is_dose(key)) {
            let at = manifest.covariates.iter().position(|covariate| covariate.name == *key);
            let known =
                manifest.covariates.iter().map(|covariate| covariate.name.as_str()).chain(["condition", "dose"]);
            laid_over.push((at.ok_or_else(|| Error::unknown("key", key, known))?, value));
        }
        let doses = match dose {
            Some(dose) => vec![dose.to_owned()],
            None => self.trained_doses(&condition)?,
        };
        let contexts: Vec<Vec<u32>> = self.sources.contexts.iter().map(|(context, _)| context.clone()).collect();
        if contexts.is_empty() {
            return Err(self.no_source("any covariates"));
        }
        let mut any = false;
        for context in contexts {
            let mut covariates = self.values(&context);
            let own: Vec<String> = covariates.clone();
            for (at, value) in &laid_over {
                covariates[*at] = (*value).to_owned();
            }
            // Without --from, a covariate that the target names also says which controls to start from.
            if query.from.is_none() && own != covariates {
                continue;
            }
            any = true;
            for dose in &doses {
                match self.target(&condition, Some(dose), covariates.clone()) {
                    Ok(target) => self.push(context.clone(), target),
                    Err(error @ Error::Unknown { .. }) if query.unseen == OnUnknown::Skip => {
                        self.skip(&condition, &covariates, error.to_string())
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if any {
            return Ok(());
        }
        for (at, value) in &laid_over {
            let covariate = &self.card.vocabulary.covariates[*at];
            if covariate.code(value).is_none() {
                return Err(Error::unknown("covariate value", value, covariate.values.iter().map(String::as_str)));
            }
        }
        let names: Vec<String> =
            laid_over.iter().map(|(at, value)| format!("{}={value}", manifest.covariates[*at].name)).collect();
        match query.no_control {
            OnUnknown::Error => Err(self.no_source(&names.join(","))),
            OnUnknown::Skip => {
                self.skip(&condition, &[], format!("no source cells with {}", names.join(",")));
                Ok(())
            }
        }
    }

    fn target(&self, condition: &str, dose: Option<&str>, covariates: Vec<String>) -> Result<Target> {
        let Card { vocabulary, rules, .. } = self.card;
        let named = parse(condition, dose, rules).map_err(|error| {
            Error::usage(
                error.to_string(),
                "write --to 'condition=A+B,dose=1+0.5', a dose for each perturbation at its own place",
            )
        })?;
        let mut parts = Vec::new();
        for (name, dose) in &named {
            let known = || vocabulary.perturbations.iter().skip(2).map(String::as_str);
            parts.push((
                vocabulary.perturbation(name).ok_or_else(|| Error::unknown("perturbation", name, known()))?,
                *dose,
            ));
        }
        let doses: Vec<f64> = named.iter().map(|(_, dose)| *dose).collect();
        parts.sort_by_key(|(code, _)| *code);
        let mut covariate_codes = Vec::new();
        for (value, covariate) in covariates.iter().zip(&vocabulary.covariates) {
            let known = || covariate.values.iter().map(String::as_str);
            covariate_codes
                .push(covariate.code(value).ok_or_else(|| Error::unknown("covariate value", value, known()))?);
        }
        let extrapolation = Extrapolation::of(vocabulary, &parts, &covariates);
        if parts.is_empty() {
            parts.push((1, 1.0));
        }
        Ok(Target {
            condition: condition.to_owned(),
            dose: schemas::conditions::dose_label(&doses, &rules.delimiter),
            parts,
            covariates,
            covariate_codes,
            extrapolation,
        })
    }

    /// The doses that a condition was trained at, as labels; 1 where there are none.
    fn trained_doses(&self, condition: &str) -> Result<Vec<String>> {
        let Card { vocabulary, rules, .. } = self.card;
        let named = parse(condition, None, rules).map_err(|error| Error::usage(error.to_string(), ""))?;
        let codes: Option<Vec<u32>> = named.iter().map(|(name, _)| vocabulary.perturbation(name)).collect();
        let mut labels: Vec<String> = Vec::new();
        if let Some(codes) = codes {
            let mut sorted = codes.clone();
            sorted.sort_unstable();
            for group in vocabulary.trained.iter().filter(|group| group.perturbations == sorted) {
                let dose_of = |code: &u32| {
                    group.perturbations.iter().position(|known| known == code).map_or(1.0, |at| group.doses[at])
                };
                let doses: Vec<f64> = codes.iter().map(dose_of).collect();
                let label = schemas::conditions::dose_label(&doses, &rules.delimiter);
                if !labels.contains(&label) {
                    labels.push(label);
                }
            }
        }
        if labels.is_empty() {
            labels.push(schemas::conditions::dose_label(&vec![1.0; named.len()], &rules.delimiter));
        }
        Ok(labels)
    }

    fn push(&mut self, context: Vec<u32>, target: Target) {
        let known = self.wanted.iter().any(|(other, known)| *other == context && *known == target);
        if !known {
            self.wanted.push((context, target));
        }
    }

    fn skip(&mut self, condition: &str, covariates: &[String], why: String) {
        let names = self.card.vocabulary.covariates.iter().map(|covariate| covariate.name.clone());
        self.skipped.push(Skipped {
            condition: condition.to_owned(),
            covariates: names.zip(covariates.iter().cloned()).collect(),
            why,
        });
    }

    fn values(&self, context: &[u32]) -> Vec<String> {
        let covariates = &self.atlas.manifest().covariates;
        context.iter().zip(covariates).map(|(code, covariate)| covariate.values[*code as usize].clone()).collect()
    }

    fn no_source(&self, covariates: &str) -> Error {
        let message = format!("there are no source cells with {covariates}");
        Error::data(
            self.atlas.path().display().to_string(),
            message,
            "say which cells to start from with --from, or skip such targets with --no-control skip",
        )
    }

    fn jobs(&mut self, no_control: OnUnknown) -> Result<Vec<Job>> {
        let mut jobs: Vec<Job> = Vec::new();
        for (context, target) in std::mem::take(&mut self.wanted) {
            let Some(source_cells) =
                self.sources.contexts.iter().find(|(known, _)| *known == context).map(|(_, cells)| *cells)
            else {
                if no_control == OnUnknown::Error {
                    let pairs: Vec<String> = self
                        .card
                        .vocabulary
                        .covariates
                        .iter()
                        .zip(&target.covariates)
                        .map(|(covariate, value)| format!("{}={value}", covariate.name))
                        .collect();
                    return Err(self.no_source(&pairs.join(",")));
                }
                self.skip(&target.condition, &target.covariates, "no source cells with these covariates".into());
                continue;
            };
            match jobs.iter_mut().find(|job| job.context == context && job.targets.len() < TARGETS_PER_JOB) {
                Some(job) => job.targets.push(target),
                None => jobs.push(Job { context, source_cells, targets: vec![target] }),
            }
        }
        Ok(jobs)
    }
}

/// Genes must be the model's, in its order.
fn check_genes(card: &Card, atlas: &Atlas) -> Result<()> {
    if card.genes == atlas.genes() {
        return Ok(());
    }
    let place = atlas.path().display().to_string();
    let first = card.genes.iter().zip(atlas.genes()).position(|(model, atlas)| model != atlas);
    let message = match first {
        Some(at) => format!("gene {at} is `{}`, but the model's is `{}`", atlas.genes()[at], card.genes[at]),
        None => format!("it has {} genes, but the model has {}", atlas.genes().len(), card.genes.len()),
    };
    Err(Error::data(
        place,
        message,
        "predict on the atlas the model was trained on, or one with the same genes in the same order",
    ))
}

/// A CSV file with columns `condition`, `dose` and covariates.
fn read_csv(path: &Path) -> Result<Vec<Request>> {
    let bad = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io("read", path)(source),
        other => Error::data(
            path.display().to_string(),
            format!("{other:?}"),
            "write columns condition, dose and covariates, separated by commas",
        ),
    };
    let mut reader = csv::Reader::from_path(path).map_err(bad)?;
    let names: Vec<String> = reader.headers().map_err(bad)?.iter().map(|name| name.trim().to_owned()).collect();
    let mut requests = Vec::new();
    for row in reader.records() {
        let row = row.map_err(bad)?;
        let filled = names.iter().zip(&row).filter(|(_, value)| !value.trim().is_empty());
        requests.push(Request::Named(Selector(
            filled.map(|(name, value)| (name.clone(), value.trim().to_owned())).collect(),
        )));
    }
    if requests.is_empty() {
        return Err(Error::data(
            path.display().to_string(),
            "it asks for nothing",
            "write a row a condition below the header",
        ));
    }
    Ok(requests)
}
