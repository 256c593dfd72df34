//! Selectors of cells, as users write them.

use std::fmt;

use schemas::{
    Error, Result,
    atlas::{Keys, Manifest},
    conditions::{CONTROL, Covariate},
    ids::{CellIndex, ConditionId},
    quoting::{length_until, quoted, unquoted},
};

use crate::atlas::Atlas;

/// Selects cells: `condition=A+B,dose=1+0.5,cell_type=T`. A value with commas and a key with commas or `=` are in double quotes
/// ([`schemas::quoting`]): `cell_type="T, naive"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<(String, String)>);

/// The error about a part of a selector that is not `key=value`.
fn not_a_pair(part: &str, text: &str, hint: &str) -> Error {
    let place = if part == text.trim() { String::new() } else { format!(" in `{text}`") };
    let is_word = !part.is_empty() && !part.contains(['=', '"']);
    let meant = if is_word { format!("; did you mean `condition={part}`?") } else { String::new() };
    Error::usage(format!("expected key=value, got `{part}`{place}{meant}"), hint)
}

/// The error about a selector, where it is a mere value of a covariate, with the key that was left out.
#[must_use]
pub fn with_key_of(text: &str, atlas: &Atlas, error: Error) -> Error {
    let value = text.trim();
    let has_value = |covariate: &&Covariate| covariate.values.iter().any(|known| known == value);
    match atlas.manifest().covariates.iter().find(has_value) {
        Some(covariate) => {
            let meant = Selector(vec![(covariate.name.clone(), value.to_owned())]);
            let hint = "write the key of each value, as in 'condition=A+B,cell_type=T'";
            Error::usage(format!("expected key=value, got `{value}`; did you mean `{meant}`?"), hint)
        }
        None => error,
    }
}

impl Selector {
    /// Reads `key=value,...`.
    ///
    /// # Errors
    /// A part without `=`, a key that appears twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut left = Some(text);
        while let Some(rest) = left {
            let key_length = length_until(rest, &['=', ',']);
            let value = rest[key_length..].strip_prefix('=').unwrap_or_default();
            let value = &value[..length_until(value, &[','])];
            let (key, length) = (rest[..key_length].trim(), key_length + value.len());
            let length = if rest[key_length..].starts_with('=') { length + 1 } else { length };
            left = rest[length..].strip_prefix(',');
            if key.is_empty() || value.trim().is_empty() {
                let hint = "write it as 'condition=A+B,cell_type=T'; put a value with commas, or a key with commas or =, in double \
                            quotes, as in 'cell_type=\"T, naive\"'";
                return Err(not_a_pair(rest[..length].trim(), text, hint));
            }
            let key = unquoted(key);
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(repeated_key(&key, &format!("`{text}`")));
            }
            pairs.push((key, unquoted(value.trim())));
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
        let named = self.named(atlas)?;
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
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("{}={}", quoted(key, &[',', '=']), quoted(value, &[','])))
            .collect();
        f.write_str(&pairs.join(","))
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
        if self.named(atlas)?.condition.is_some() {
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
    /// `dose`, and the names of a column in the atlas and in its file.
    ///
    /// # Errors
    /// Keys that the atlas does not know, or two keys with the same meaning.
    pub fn named(&self, atlas: &Atlas) -> Result<ParsedSelector<'_>> {
        let mut named = ParsedSelector { condition: None, dose: None, covariates: Vec::new() };
        for (key, value) in &self.0 {
            let meaning = KeyMeaning::of(key, atlas.manifest());
            let meaning = meaning.or_else(|| KeyMeaning::of(&atlas.name_in_atlas(key).ok()?, atlas.manifest()));
            let is_repeated = match meaning {
                Some(KeyMeaning::Covariate(at)) => {
                    let is_repeated = named.covariates.iter().any(|(known, _)| *known == at);
                    named.covariates.push((at, value));
                    is_repeated
                }
                Some(KeyMeaning::Condition) => named.condition.replace(value).is_some(),
                Some(KeyMeaning::Dose) => named.dose.replace(value).is_some(),
                None => {
                    let covariates = atlas.manifest().covariates.iter().map(|covariate| covariate.name.as_str());
                    return Err(Error::unknown("key", key, covariates.chain(["condition", "dose"])));
                }
            };
            if is_repeated {
                let key = match meaning {
                    Some(KeyMeaning::Condition) => "condition",
                    Some(KeyMeaning::Dose) => "dose",
                    _ => key,
                };
                return Err(repeated_key(key, &format!("`{self}`")));
            }
        }
        Ok(named)
    }
}

/// The column that a key of a selector names.
#[derive(Clone, Copy, PartialEq)]
enum KeyMeaning {
    /// The covariate with this index in the atlas.
    Covariate(usize),
    Condition,
    Dose,
}

impl KeyMeaning {
    /// The meaning of a name in an atlas.
    fn of(key: &str, manifest: &Manifest) -> Option<Self> {
        let Keys { perturbation, dose, .. } = &manifest.keys;
        let covariate = manifest.covariates.iter().position(|covariate| covariate.name == key);
        match covariate {
            Some(at) => Some(Self::Covariate(at)),
            None if key == "condition" || perturbation.as_deref() == Some(key) => Some(Self::Condition),
            None if key == "dose" || dose.as_deref() == Some(key) => Some(Self::Dose),
            None => None,
        }
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
        assert_eq!(pairs(r#""a,b=c" = x,"d"=y"#), [pair("a,b=c", "x"), pair("d", "y")]);
        for values in [["T, naive", " "], ["\"", ",\","], ["", "a=b"]] {
            let selector = Selector(vec![pair("k", values[0]), pair("l,=", values[1])]);
            assert_eq!(Selector::parse(&selector.to_string()).expect("as it is shown"), selector, "{selector}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let error = Selector::parse("condition=A,condition=B").expect_err("twice").to_string();
        assert!(error.contains("`condition` appears twice"), "{error}");
        for bad in ["cell_type=T, naive", "a", "=b", "a=,b=c", "\"a,b=c"] {
            let error = Selector::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("expected key=value"), "{bad}: {error}");
        }
        let error = Selector::parse("stim").expect_err("a word").to_string();
        assert_eq!(error, "expected key=value, got `stim`; did you mean `condition=stim`?");
    }
}
