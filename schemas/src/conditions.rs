//! Perturbations, doses and covariates, and the codes they become.
//!
//! A *condition* is a set of (perturbation, dose) pairs; a *combination* is a condition without its doses,
//! the class that the adversary predicts; *control* is the empty set. `A+B` with doses `1+0.5` and `B+A` with
//! `0.5+1` are the same condition: every dose belongs to the perturbation at its position. A name is kept as
//! first seen. Blanks around the names in a label are removed, and a perturbation that occurs twice in a
//! label, at the same dose, counts once.

mod label;
mod listing;
mod tuples;

use crate::numbers::bounded;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

pub use self::{
    label::{BadLabel, LabelRules, dose_label, holds_doses, parse, repeated},
    listing::listing_order,
};
use crate::{
    ids::{CombinationId, ConditionId, PerturbationId},
    notation::{Meaning, meaning},
};

/// A set of perturbations without their doses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Combination {
    /// Its name, as first seen.
    pub name: String,
    /// Its perturbations, in the order of the name; empty for control.
    pub perturbations: Vec<PerturbationId>,
}

/// A set of perturbations with their doses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Its perturbations.
    pub combination: CombinationId,
    /// The dose of each of the combination's perturbations, in the same order.
    pub doses: Vec<f64>,
}

/// All conditions of an atlas, each parsed once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredConditionTable", into = "StoredConditionTable")]
pub struct ConditionTable {
    rules: LabelRules,
    perturbations: Vec<String>,
    combinations: Vec<Combination>,
    conditions: Vec<Condition>,
    perturbation_ids: HashMap<String, PerturbationId>,
    combination_ids: HashMap<Vec<PerturbationId>, CombinationId>,
    condition_ids: HashMap<(CombinationId, Vec<u64>), ConditionId>,
}

/// Control, first in every table.
pub const CONTROL: ConditionId = ConditionId(0);

impl ConditionTable {
    /// A table with only control.
    #[must_use]
    pub fn new(rules: LabelRules) -> Self {
        let name = rules.controls.first().cloned().unwrap_or_else(|| "control".into());
        let control = Combination { name, perturbations: Vec::new() };
        Self {
            rules,
            perturbations: Vec::new(),
            combinations: vec![control],
            conditions: vec![Condition { combination: CombinationId(0), doses: Vec::new() }],
            perturbation_ids: HashMap::new(),
            combination_ids: HashMap::from([(Vec::new(), CombinationId(0))]),
            condition_ids: HashMap::from([((CombinationId(0), Vec::new()), CONTROL)]),
        }
    }

    /// The rules for reading labels.
    #[must_use]
    pub fn rules(&self) -> &LabelRules {
        &self.rules
    }

    /// The names of the perturbations, by their ids.
    #[must_use]
    pub fn perturbations(&self) -> &[String] {
        &self.perturbations
    }

    /// The combinations, by their ids; the first is control.
    #[must_use]
    pub fn combinations(&self) -> &[Combination] {
        &self.combinations
    }

    /// The conditions, by their ids; the first is control.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// One condition.
    #[must_use]
    pub fn condition(&self, id: ConditionId) -> &Condition {
        &self.conditions[id.index()]
    }

    /// The combination of a condition.
    #[must_use]
    pub fn combination_of(&self, id: ConditionId) -> &Combination {
        &self.combinations[self.condition(id).combination.index()]
    }

    /// A condition's name, without doses.
    #[must_use]
    pub fn name(&self, id: ConditionId) -> &str {
        &self.combination_of(id).name
    }

    /// A condition's doses as a label, in the order of its name; `1` for control.
    #[must_use]
    pub fn dose_label(&self, id: ConditionId) -> String {
        dose_label(&self.condition(id).doses, &self.rules.delimiter)
    }

    /// Perturbations and doses of a condition.
    pub fn parts(&self, id: ConditionId) -> impl Iterator<Item = (PerturbationId, f64)> + '_ {
        self.combination_of(id).perturbations.iter().copied().zip(self.condition(id).doses.iter().copied())
    }

    /// The id of a perturbation.
    #[must_use]
    pub fn perturbation(&self, name: &str) -> Option<PerturbationId> {
        self.perturbation_ids.get(name).copied()
    }

    /// The condition of a label and its doses, added to the table if it is new.
    ///
    /// Parts that mean control are dropped from a combination: `A+ctrl` is `A`. Without doses, every dose is 1.
    /// Doses of control are ignored.
    ///
    /// # Errors
    /// Labels and doses that don't match.
    pub fn intern(&mut self, label: &str, doses: Option<&str>) -> Result<ConditionId, BadLabel> {
        let parts = parse(label, doses, &self.rules)?;
        let mut named: Vec<(PerturbationId, f64)> = Vec::with_capacity(parts.len());
        for (name, dose) in parts {
            named.push((self.intern_perturbation(&name), dose));
        }
        Ok(self.intern_parts(&named))
    }

    /// The condition of a label and its doses, if it is in the table.
    ///
    /// # Errors
    /// Labels and doses that don't match.
    pub fn find(&self, label: &str, doses: Option<&str>) -> Result<Option<ConditionId>, BadLabel> {
        let mut named = Vec::new();
        for (name, dose) in parse(label, doses, &self.rules)? {
            let Some(id) = self.perturbation(&name) else { return Ok(None) };
            named.push((id, dose));
        }
        named.sort_by_key(|(id, _)| *id);
        let key: Vec<PerturbationId> = named.iter().map(|(id, _)| *id).collect();
        let Some(combination) = self.combination_ids.get(&key) else { return Ok(None) };
        let doses = align(&self.combinations[combination.index()], &named);
        Ok(self.condition_ids.get(&(*combination, bits(&doses))).copied())
    }

    fn intern_perturbation(&mut self, name: &str) -> PerturbationId {
        let next = PerturbationId::at(self.perturbations.len());
        if let Some(id) = self.perturbation_ids.get(name) {
            return *id;
        }
        self.perturbations.push(name.to_owned());
        self.perturbation_ids.insert(name.to_owned(), next);
        next
    }

    /// The condition of these perturbations and doses, added to the table if it is new; no perturbation may
    /// appear twice.
    pub fn intern_parts(&mut self, parts: &[(PerturbationId, f64)]) -> ConditionId {
        let mut key: Vec<PerturbationId> = parts.iter().map(|(id, _)| *id).collect();
        key.sort_unstable();
        let combination = match self.combination_ids.get(&key) {
            Some(id) => *id,
            None => {
                let id = CombinationId::at(self.combinations.len());
                let perturbations: Vec<PerturbationId> = parts.iter().map(|(id, _)| *id).collect();
                let names: Vec<&str> = perturbations.iter().map(|id| self.perturbations[id.index()].as_str()).collect();
                self.combinations.push(Combination { name: names.join(&self.rules.delimiter), perturbations });
                self.combination_ids.insert(key, id);
                id
            }
        };
        let doses = align(&self.combinations[combination.index()], parts);
        let next = ConditionId::at(self.conditions.len());
        let id = *self.condition_ids.entry((combination, bits(&doses))).or_insert(next);
        if id == next {
            self.conditions.push(Condition { combination, doses });
        }
        id
    }
}

fn align(combination: &Combination, parts: &[(PerturbationId, f64)]) -> Vec<f64> {
    let dose_of =
        |perturbation: &PerturbationId| parts.iter().find(|(id, _)| id == perturbation).map_or(1.0, |(_, dose)| *dose);
    combination.perturbations.iter().map(dose_of).collect()
}

fn bits(doses: &[f64]) -> Vec<u64> {
    doses.iter().map(|dose| dose.to_bits()).collect()
}

/// The table in its stored form; look-ups are rebuilt from it.
#[derive(Clone, Serialize, Deserialize)]
struct StoredConditionTable {
    rules: LabelRules,
    perturbations: Vec<String>,
    combinations: Vec<Combination>,
    conditions: Vec<Condition>,
}

impl From<ConditionTable> for StoredConditionTable {
    fn from(table: ConditionTable) -> Self {
        let ConditionTable { rules, perturbations, combinations, conditions, .. } = table;
        Self { rules, perturbations, combinations, conditions }
    }
}

impl TryFrom<StoredConditionTable> for ConditionTable {
    type Error = String;

    fn try_from(stored: StoredConditionTable) -> Result<Self, String> {
        let mut table = Self::new(stored.rules);
        for name in &stored.perturbations {
            table.intern_perturbation(name);
        }
        if table.perturbations != stored.perturbations {
            return Err("a perturbation appears twice".into());
        }
        for condition in &stored.conditions {
            let combination = stored
                .combinations
                .get(condition.combination.index())
                .ok_or("a condition refers to a combination that does not exist")?;
            if combination.perturbations.len() != condition.doses.len()
                || combination.perturbations.iter().any(|id| table.perturbations.len() <= id.index())
            {
                return Err(format!("condition `{}` does not fit its perturbations", combination.name));
            }
            let parts: Vec<_> =
                combination.perturbations.iter().copied().zip(condition.doses.iter().copied()).collect();
            table.intern_parts(&parts);
        }
        if table.conditions != stored.conditions || table.combinations != stored.combinations {
            return Err("conditions are repeated or out of order".into());
        }
        Ok(table)
    }
}

/// The values of one covariate (cell type, donor, batch), coded in order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Covariate {
    /// Its column in `obs`.
    pub name: String,
    /// Its values, by their codes.
    pub values: Vec<String>,
}

impl Covariate {
    /// The code of a value; a number or flag also matches in another notation (`1.0` for `1`), if only one value equals it.
    #[must_use]
    pub fn code(&self, value: &str) -> Option<u32> {
        match meaning(value, self.values.iter().map(String::as_str)) {
            Meaning::One(code) => Some(bounded(code)),
            Meaning::Unknown | Meaning::Several(_) => None,
        }
    }

    /// The stored value that a text means: see [`Covariate::code`].
    #[must_use]
    pub fn stored(&self, value: &str) -> Option<&str> {
        self.code(value).map(|code| self.values[code as usize].as_str())
    }
}

#[cfg(test)]
mod tests;
