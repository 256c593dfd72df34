//! The order in which conditions are listed: control first, then by name, doses as numbers.

use std::cmp::Ordering;

use super::{CONTROL, ConditionTable};
use crate::ids::ConditionId;

/// Characters that divide the doses of a combination.
const DELIMITERS: [char; 6] = ['+', '_', ';', '|', ',', '&'];

impl ConditionTable {
    /// Compares two conditions of the table by the order in which they are listed.
    #[must_use]
    pub fn listing_order(&self, one: ConditionId, other: ConditionId) -> Ordering {
        let name = |id: ConditionId| (id != CONTROL, self.name(id));
        name(one).cmp(&name(other)).then_with(|| by_numbers(&self.condition(one).doses, &self.condition(other).doses))
    }
}

/// Compares two conditions, each a name and its doses as written, by the order in which they are listed.
#[must_use]
pub fn listing_order(one: (&str, &str), other: (&str, &str)) -> Ordering {
    one.0
        .cmp(other.0)
        .then_with(|| by_numbers(&numbers_of(one.1), &numbers_of(other.1)))
        .then_with(|| one.1.cmp(other.1))
}

/// The numbers of doses as written in files: `0.5+1` is 0.5 and 1.
fn numbers_of(doses: &str) -> Vec<f64> {
    doses.split(DELIMITERS).map(|dose| dose.trim().parse().unwrap_or(f64::INFINITY)).collect()
}

fn by_numbers(one: &[f64], other: &[f64]) -> Ordering {
    one.partial_cmp(other).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::LabelRules;

    #[test]
    fn doses_are_listed_as_numbers() {
        let mut written = [("B", "1"), ("A", "1000"), ("A", "9.5"), ("A", ""), ("A", "10+0.5"), ("A", "10+0.25")];
        written.sort_by(|one, other| listing_order(*one, *other));
        assert_eq!(written.map(|(_, dose)| dose), ["9.5", "10+0.25", "10+0.5", "1000", "", "1"]);
    }

    #[test]
    fn control_is_listed_first() {
        let mut table = ConditionTable::new(LabelRules { delimiter: "+".into(), controls: vec!["ctrl".into()] });
        let mut intern = |dose: &str| table.intern("A", Some(dose)).expect("a dose");
        let mut ids = [intern("100"), intern("9"), CONTROL];
        ids.sort_by(|one, other| table.listing_order(*one, *other));
        let doses: Vec<String> = ids.iter().map(|id| table.dose_label(*id)).collect();
        assert_eq!((ids[0], &doses[1], &doses[2]), (CONTROL, &"9".to_owned(), &"100".to_owned()));
    }
}
