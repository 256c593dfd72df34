//! Cells that share condition and covariates, found in one pass over the labels.

use std::fmt;

use schemas::{
    Error, Result,
    atlas::{Keys, Manifest},
    conditions::CONTROL,
    ids::{CellIndex, ConditionId},
    vocabulary::{GroupCodes, Vocabulary},
};

use crate::{
    atlas::Atlas,
    codes::CodeTable,
    split::{Split, SplitPart},
};

/// Cells of one condition and covariate combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Their condition.
    pub condition: ConditionId,
    /// Their covariate codes.
    pub covariates: Vec<u32>,
    /// Number of cells for training, for validation, held out, and set apart as references.
    pub cells: [u64; 4],
}

impl Group {
    /// Number of cells in a part.
    #[must_use]
    pub fn cells_for(&self, part: SplitPart) -> u64 {
        self.cells[part as usize]
    }

    /// Codes and doses of the group's perturbations, and the codes of its covariates; `None` if a model with this
    /// vocabulary does not know them.
    #[must_use]
    pub fn codes(&self, atlas: &Atlas, vocabulary: &Vocabulary) -> Option<GroupCodes> {
        vocabulary.coded(&atlas.manifest().conditions, self.condition, &atlas.covariate_values(&self.covariates))
    }

    /// Number of cells, in any part.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.cells.iter().sum()
    }
}

/// All groups of an atlas, in the order of their first cells.
#[derive(Clone, Debug)]
pub struct Groups {
    groups: Vec<Group>,
    by_codes: CodeTable,
}

impl Groups {
    /// Finds the groups; without a split, every cell counts as a training cell.
    #[must_use]
    pub fn from_atlas(atlas: &Atlas, split: Option<&Split>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut by_codes = CodeTable::default();
        for cell in (0..atlas.cells()).map(CellIndex) {
            let codes = atlas.codes(cell);
            let at = by_codes.find_or_add(codes);
            if at == groups.len() {
                groups.push(Group { condition: ConditionId(codes[0]), covariates: codes[1..].to_vec(), cells: [0; 4] });
            }
            let part = split.map_or(SplitPart::Train, |split| split.part(cell));
            groups[at].cells[part as usize] += 1;
        }
        by_codes.freeze();
        Self { groups, by_codes }
    }

    /// The groups.
    #[must_use]
    pub fn all(&self) -> &[Group] {
        &self.groups
    }

    /// The group of a cell's codes.
    #[must_use]
    pub fn find(&self, codes: &[u32]) -> Option<usize> {
        self.by_codes.find(codes)
    }

    /// The distinct covariate combinations, in the order of their first cells.
    #[must_use]
    pub fn contexts(&self) -> Vec<Vec<u32>> {
        let mut seen = std::collections::HashSet::new();
        self.groups
            .iter()
            .filter(|group| seen.insert(&group.covariates))
            .map(|group| group.covariates.clone())
            .collect()
    }
}

/// Selects cells: `condition=A+B,dose=1+0.5,cell_type=T`. A value that contains commas, or begins or ends
/// with blanks, is in double quotes, in which a double quote is written twice: `cell_type="T, naive"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<(String, String)>);

impl Selector {
    /// Reads `key=value,...`.
    ///
    /// # Errors
    /// A part without `=`, a key that appears twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut left = Some(text);
        while let Some(rest) = left {
            let (pair, after) = rest.split_at(pair_length(rest));
            left = after.strip_prefix(',');
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => (key.trim(), value.trim()),
                _ => {
                    let hint = "write it as 'condition=A+B,cell_type=T'; put a value with commas in double quotes, as in \
                                'cell_type=\"T, naive\"'";
                    return Err(Error::usage(format!("`{pair}` in `{text}` is not key=value"), hint));
                }
            };
            if pairs.iter().any(|(known, _)| known == key) {
                return Err(repeated_key(key, &format!("`{text}`")));
            }
            pairs.push((key.to_owned(), unquoted(value)));
        }
        Ok(Self(pairs))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Turns the selector into a test of a cell's codes.
    ///
    /// # Errors
    /// Keys or values that the atlas does not know.
    pub fn on(&self, atlas: &Atlas) -> Result<impl Fn(&[u32]) -> bool + use<>> {
        let named = self.named(atlas.manifest())?;
        let mut covariates = Vec::new();
        for (at, value) in named.covariates {
            let covariate = &atlas.manifest().covariates[at];
            let known = || covariate.values.iter().map(String::as_str);
            covariates
                .push((at, covariate.code(value).ok_or_else(|| Error::unknown("covariate value", value, known()))?));
        }
        let conditions = match (named.condition, named.dose) {
            (None, None) => None,
            (label, dose) => Some(conditions_named(atlas, label, dose)?),
        };
        Ok(move |codes: &[u32]| {
            conditions.as_ref().is_none_or(|conditions| conditions.contains(&ConditionId(codes[0])))
                && covariates.iter().all(|(at, code)| codes[1 + at] == *code)
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        f.write_str(&pairs.join(","))
    }
}

/// Bytes before the comma that ends a pair; a quoted value ends at its closing quote.
fn pair_length(text: &str) -> usize {
    let value = text.find('=').map_or(text.len(), |at| at + 1);
    let comma = |from: usize| text[from..].find(',').map_or(text.len(), |at| from + at);
    let blanks = text[value..].len() - text[value..].trim_start().len();
    let begin = value + blanks;
    if comma(0) < value || !text[begin..].starts_with('"') {
        return comma(0);
    }
    let mut at = begin + 1;
    while let Some(found) = text[at..].find('"') {
        at += found + 1;
        if !text[at..].starts_with('"') {
            return comma(at);
        }
        at += 1;
    }
    // Without a closing quote, the opening one is an ordinary character.
    comma(0)
}

/// A value without its double quotes.
pub fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map_or_else(|| value.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// A value in a form that [`Selector::parse`] reads.
fn quoted(value: &str) -> String {
    match value.is_empty() || value.contains(',') || value.starts_with('"') || value.trim() != value {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value.to_owned(),
    }
}

fn repeated_key(key: &str, place: &str) -> Error {
    Error::usage(format!("`{key}` appears twice in {place}"), "to select either of two values, give the flag twice")
}

/// The parts of a selector.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedSelector<'a> {
    /// The label of the condition.
    pub condition: Option<&'a str>,
    /// The label of the dose.
    pub dose: Option<&'a str>,
    /// Index in the atlas and value of each covariate.
    pub covariates: Vec<(usize, &'a str)>,
}

impl Selector {
    /// If it names no condition: of the cells that it selects, how many there are, and how many are not controls.
    ///
    /// # Errors
    /// As for [`Selector::on`].
    pub fn of_any_condition(&self, atlas: &Atlas) -> Result<Option<[u64; 2]>> {
        if self.named(atlas.manifest())?.condition.is_some() {
            return Ok(None);
        }
        let is_selected = self.on(atlas)?;
        let mut counts = [0; 2];
        for cell in (0..atlas.cells()).map(CellIndex).filter(|cell| is_selected(atlas.codes(*cell))) {
            counts[0] += 1;
            counts[1] += u64::from(atlas.condition(cell) != CONTROL);
        }
        Ok(Some(counts))
    }

    /// Assigns every key: the perturbation column and `condition` mean the same, as do the dose column and
    /// `dose`.
    ///
    /// # Errors
    /// Keys that the atlas does not know, or two keys with the same meaning.
    pub fn named(&self, manifest: &Manifest) -> Result<ParsedSelector<'_>> {
        let Keys { perturbation, dose, .. } = &manifest.keys;
        let mut named = ParsedSelector { condition: None, dose: None, covariates: Vec::new() };
        for (key, value) in &self.0 {
            if let Some(at) = manifest.covariates.iter().position(|covariate| covariate.name == *key) {
                named.covariates.push((at, value));
            } else if key == "condition" || perturbation.as_deref() == Some(key) {
                if named.condition.replace(value).is_some() {
                    return Err(repeated_key("condition", &format!("`{self}`")));
                }
            } else if key == "dose" || dose.as_deref() == Some(key) {
                if named.dose.replace(value).is_some() {
                    return Err(repeated_key("dose", &format!("`{self}`")));
                }
            } else {
                let known =
                    manifest.covariates.iter().map(|covariate| covariate.name.as_str()).chain(["condition", "dose"]);
                return Err(Error::unknown("key", key, known));
            }
        }
        Ok(named)
    }
}

/// The conditions of an atlas with a label and a dose label; a label that is not given matches any.
fn conditions_named(atlas: &Atlas, label: Option<&str>, dose: Option<&str>) -> Result<Vec<ConditionId>> {
    let table = &atlas.manifest().conditions;
    let all = || (0..table.conditions().len()).map(ConditionId::at);
    // Doses are compared as numbers: 1, 1.0 and 1e0 are the same dose.
    let numbers = |text: &str| {
        table
            .rules()
            .dose_parts(text)
            .into_iter()
            .map(|dose| dose.trim().parse::<f64>().ok())
            .collect::<Option<Vec<_>>>()
    };
    let wanted_doses = dose.and_then(numbers);
    let of_dose = |id: &ConditionId| {
        dose.is_none() || (*id != CONTROL && wanted_doses.as_ref() == Some(&table.condition(*id).doses))
    };
    let Some(label) = label else { return Ok(all().filter(of_dose).collect()) };
    let parts =
        schemas::conditions::parse(label, dose, table.rules()).map_err(|error| Error::usage(error.to_string(), ""))?;
    let mut chosen = Vec::new();
    for (name, _) in &parts {
        let id = table
            .perturbation(name)
            .ok_or_else(|| Error::unknown("condition", name, table.perturbations().iter().map(String::as_str)))?;
        chosen.push(id);
    }
    chosen.sort_unstable();
    if let (Some(_), false) = (dose, parts.is_empty()) {
        let found = table.find(label, dose).map_err(|error| Error::usage(error.to_string(), ""))?;
        return Ok(found.into_iter().collect());
    }
    Ok(all()
        .filter(|id| {
            let mut perturbations = table.combination_of(*id).perturbations.clone();
            perturbations.sort_unstable();
            perturbations == chosen
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
    }

    #[test]
    fn values_with_commas_blanks_and_quotes_are_read_as_they_are_written() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs("a=x y, b = z "), [pair("a", "x y"), pair("b", "z")]);
        assert_eq!(pairs(r#"a="T, naive",b=z"#), [pair("a", "T, naive"), pair("b", "z")]);
        assert_eq!(pairs(r#"a=" T ""x"" ", b="""#), [pair("a", " T \"x\" "), pair("b", "")]);
        assert_eq!(pairs(r#"a=5",b="q=r""#), [pair("a", "5\""), pair("b", "q=r")]);
        for values in [["T, naive", " "], ["\"", ",\","], ["", "a=b"]] {
            let selector = Selector(vec![pair("k", values[0]), pair("l", values[1])]);
            assert_eq!(Selector::parse(&selector.to_string()).expect("as it is shown"), selector, "{selector}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let error = Selector::parse("condition=A,condition=B").expect_err("twice").to_string();
        assert!(error.contains("`condition` appears twice"), "{error}");
        assert!(Selector::parse("cell_type=T, naive").is_err());
    }
}
