//! Names and values in lists and selectors: one that contains a separator, or begins or ends with blanks, is in double quotes, in
//! which a double quote is written twice.

/// Bytes before the first of `ends` that is not within quotes; all of them, if there is none. Quotes begin the text, blanks apart;
/// without a closing one, the opening one is an ordinary character.
#[must_use]
pub fn length_until(text: &str, ends: &[char]) -> usize {
    let end = |from: usize| text[from..].find(ends).map_or(text.len(), |at| from + at);
    let begin = text.len() - text.trim_start().len();
    if !text[begin..].starts_with('"') {
        return end(0);
    }
    let mut at = begin + 1;
    while let Some(found) = text[at..].find('"') {
        at += found + 1;
        if !text[at..].starts_with('"') {
            return end(at);
        }
        at += 1;
    }
    end(0)
}

/// A name or value without its double quotes.
#[must_use]
pub fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map_or_else(|| text.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// A name or value in a form that is read back although `separators` surround it.
#[must_use]
pub fn quoted(text: &str, separators: &[char]) -> String {
    match text.is_empty() || text.contains(separators) || text.starts_with('"') || text.trim() != text {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// The names of a list that is separated by commas.
#[must_use]
pub fn listed(text: &str) -> Vec<String> {
    let (mut names, mut left) = (Vec::new(), Some(text));
    while let Some(rest) = left {
        let (name, after) = rest.split_at(length_until(rest, &[',']));
        left = after.strip_prefix(',');
        if !name.trim().is_empty() {
            names.push(unquoted(name.trim()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_written() {
        assert_eq!(listed(r#"a, "b,c=" ,,"d ""e""",f"g"#), ["a", "b,c=", "d \"e\"", "f\"g"]);
        let names = ["a", "b,c", " d", "\"e", "f\"g"];
        let written: Vec<String> = names.iter().map(|name| quoted(name, &[','])).collect();
        assert_eq!(listed(&written.join(",")), names);
    }
}
