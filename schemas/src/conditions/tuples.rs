//! Labels that are lists of Python tuples, each of a perturbation, its dose and the dose's unit: `[('drug', 0.5, 'uM')]`, as in
//! the column `drugname_drugconc` of Tahoe-100M.

/// A perturbation with its dose, as written in a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DosedName<'a> {
    pub(super) name: &'a str,
    pub(super) dose: &'a str,
    pub(super) unit: &'a str,
}

impl DosedName<'_> {
    /// The power of ten that turns the dose into micromolar; `None` for a unit that is not molar.
    fn power(&self) -> Option<i32> {
        match self.unit.trim() {
            "pM" => Some(-6),
            "nM" => Some(-3),
            "uM" | "µM" | "μM" => Some(0),
            "mM" => Some(3),
            "M" => Some(6),
            _ => None,
        }
    }

    /// Whether the unit is known.
    pub(super) fn is_molar(&self) -> bool {
        self.power().is_some()
    }

    /// The dose in micromolar, as the number with these digits: `9` nM is `0.009`, without an error of rounding. `None` for
    /// a dose that is not a number, or a unit that is not molar.
    pub(super) fn micromolar(&self) -> Option<f64> {
        let (digits, exponent) = self.dose.split_once(['e', 'E']).unwrap_or((self.dose, "0"));
        let exponent = exponent.parse::<i32>().ok()?.checked_add(self.power()?)?;
        format!("{digits}e{exponent}").parse().ok()
    }
}

/// Whether a label begins like a list of tuples.
pub(super) fn begins_with_tuple(label: &str) -> bool {
    label.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('('))
}

/// The tuples of a label; `None` if it is written in any other way.
pub(super) fn tuples(label: &str) -> Option<Vec<DosedName<'_>>> {
    let mut rest = label.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut found = Vec::new();
    loop {
        rest = rest.strip_prefix('(')?.trim_start();
        let (name, after) = quoted(rest)?;
        let (dose, after) = after.trim_start().strip_prefix(',')?.split_once(',')?;
        let (unit, after) = quoted(after.trim_start())?;
        found.push(DosedName { name: name.trim(), dose: dose.trim(), unit });
        rest = after.trim_start().strip_prefix(')')?.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Some(found),
            None => return None,
        }
    }
}

/// A text in quotes of either kind, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|sign| ['\'', '"'].contains(sign))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_read_with_either_quote_and_anything_else_is_not_one() {
        let two = tuples("[('A (x, y)', 0.5, 'uM'), (\"B's\", 5, 'nM')]").expect("two tuples");
        let expected =
            [DosedName { name: "A (x, y)", dose: "0.5", unit: "uM" }, DosedName { name: "B's", dose: "5", unit: "nM" }];
        assert_eq!(two, expected);
        assert_eq!(two.iter().map(DosedName::micromolar).collect::<Vec<_>>(), [Some(0.5), Some(0.005)]);
        for other in
            ["A", "[A]", "[]", "[('A')]", "[('A', 1)]", "[('A', 1, 'uM')", "[('A', 1, 'uM') B]", "[('A', 1, 'uM'),]"]
        {
            assert_eq!(tuples(other), None, "{other}");
        }
    }
}
