//! Units beside doses: doses are compared as numbers, so all of them have to be in one unit.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use formats::source::{Source, obs_column};
use schemas::{Error, Result, conditions::LabelRules};

use super::unread_doses::names_dose_units;

/// Refuses a guessed dose column beside a column with several units of doses of cells that are not control. Of one that the user
/// named, a sentence says so instead: its doses may be converted.
///
/// # Errors
/// Several units; a column that can't be read.
pub(super) fn check_units(
    source: &dyn Source,
    perturbation: &str,
    dose: &str,
    is_guessed: bool,
    rules: &LabelRules,
) -> Result<Option<String>> {
    let schema = source.obs_schema();
    for field in schema.fields().iter().skip(1).filter(|field| names_dose_units(field.name())) {
        let mut units = BTreeSet::new();
        for (labels, found) in obs_column(source, perturbation)?.zip(obs_column(source, field.name())?) {
            let (labels, found) = (labels?, found?);
            for (label, unit) in labels.as_string::<i32>().iter().zip(found.as_string::<i32>()) {
                if let (Some(label), Some(unit)) = (label, unit)
                    && !rules.means_control(label)
                    && !units.contains(unit)
                {
                    units.insert(unit.to_owned());
                }
            }
        }
        if units.len() > 1 {
            let units: Vec<String> = units.into_iter().collect();
            let message = format!(
                "`{}` has several units ({}), but doses are compared as numbers",
                field.name(),
                units.join(", ")
            );
            if is_guessed {
                let hint = format!(
                    "write the doses in one unit to a column of their own and name it with --dose; --dose {dose} reads the numbers as they are"
                );
                return Err(Error::data(format!("{}, obs", source.origin().path), message, hint));
            }
            return Ok(Some(format!("{message}: those of `{dose}` have to be in one unit")));
        }
    }
    Ok(None)
}
