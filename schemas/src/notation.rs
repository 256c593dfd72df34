//! Values that are written in another way than they are stored: `1.0` for `1`, `True` for `true`.

/// The meaning of a text among stored values, by their indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// No value is equal to it.
    Unknown,
    /// This one: it is stored just so, or it is the only one that is equal to the text.
    One(usize),
    /// None is stored just so, and these are equal to it.
    Several(Vec<usize>),
}

/// The meaning of a text among stored values: the same text, or else an equal number or flag.
pub fn meaning<'a>(text: &str, stored: impl Iterator<Item = &'a str> + Clone) -> Meaning {
    if let Some(exact) = stored.clone().position(|known| known == text) {
        return Meaning::One(exact);
    }
    let equal: Vec<usize> =
        stored.enumerate().filter(|(_, known)| are_equal(text, known)).map(|(index, _)| index).collect();
    match equal.as_slice() {
        [] => Meaning::Unknown,
        [only] => Meaning::One(*only),
        _ => Meaning::Several(equal),
    }
}

/// Whether two texts are the same number or the same flag.
fn are_equal(one: &str, other: &str) -> bool {
    are_equal_numbers(one, other) || (is_flag(one) && one.eq_ignore_ascii_case(other))
}

fn is_flag(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

/// Whether two texts are one number: whole numbers are compared by all their digits, others as float64.
fn are_equal_numbers(one: &str, other: &str) -> bool {
    match (one.parse::<i128>(), other.parse::<i128>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.parse::<f64>().is_ok_and(|one| one.is_finite() && other.parse() == Ok(one)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_compared_by_all_their_digits() {
        assert!(!are_equal_numbers("9007199254740993", "9007199254740992"), "float64 holds one of them");
        assert!(are_equal_numbers("1e3", "1000") && !are_equal_numbers("nan", "nan"));
    }

    #[test]
    fn a_text_means_the_value_that_is_stored_so_or_the_only_equal_one() {
        let stored = ["1", "1.0", "2", "true", "False"];
        let means = |text: &str| meaning(text, stored.into_iter());
        assert_eq!(["1.0", "2e0", "TRUE", "false"].map(means), [1, 2, 3, 4].map(Meaning::One));
        assert_eq!(means("01"), Meaning::Several(vec![0, 1]));
        assert_eq!(["3", "t", "nan"].map(means), [Meaning::Unknown, Meaning::Unknown, Meaning::Unknown]);
    }
}
