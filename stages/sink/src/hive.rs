//! Folder names of a partition in the style of Hive and pyarrow: `condition=A%2BB`.

use std::{fmt::Write, path::Path};

use schemas::{Error, Result};

/// The folder name for an empty value.
const EMPTY: &str = "__HIVE_DEFAULT_PARTITION__";
/// Maximum length of a name in file systems, in bytes.
const LONGEST_NAME: usize = 255;

/// The folder for these columns' values: `condition=A%2BB/cell_type=K562`.
///
/// # Errors
/// A name that is too long for a file system.
pub fn folder<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<String> {
    let mut folder = String::new();
    for (column, value) in values {
        let name = match value {
            "" => format!("{}={EMPTY}", escaped(column)),
            value => format!("{}={}", escaped(column), escaped(value)),
        };
        if name.len() > LONGEST_NAME {
            let message = format!("the folder of {column} `{value}` would have a name of {} bytes", name.len());
            return Err(Error::usage(
                message,
                format!("file systems allow {LONGEST_NAME}; remove {column} from --partition-by"),
            ));
        }
        if !folder.is_empty() {
            folder.push('/');
        }
        folder.push_str(&name);
    }
    Ok(folder)
}

/// Writes every byte except letters, digits and `-_.~` as `%` and its two hexadecimal digits, as in a URL.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let written = write!(escaped, "%{byte:02X}");
            debug_assert!(written.is_ok(), "a string takes any text");
        }
    }
    escaped
}

/// The columns and values in the folder names of a file; `file` is its path within the set.
#[must_use]
pub fn values(file: &Path) -> Vec<(String, String)> {
    let folders = file.parent().into_iter().flat_map(Path::components);
    let value = |text: &str| if text == EMPTY { String::new() } else { unescaped(text) };
    folders
        .filter_map(|folder| folder.as_os_str().to_str()?.split_once('='))
        .map(|(column, text)| (unescaped(column), value(text)))
        .collect()
}

/// Reverses [`escaped`]; anything that is not an escape is unchanged.
fn unescaped(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, left) = match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => (byte, &after[2..]),
            None => (*first, after),
        };
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_the_values_that_named_them() {
        for value in ["A+B", "a b/c=100%", "é", "x-1_2.3~", "", "%41"] {
            let folder = folder([("condition", value), ("cell type", "T=NK")]).expect("short names");
            let found = values(&Path::new(&folder).join("part-00000.parquet"));
            assert_eq!(found, [("condition".into(), value.into()), ("cell type".into(), "T=NK".into())]);
        }
        assert_eq!(values(Path::new("part-00000.parquet")), []);
    }

    #[test]
    fn names_are_escaped_as_in_a_url() {
        let folder_of = |value| folder([("condition", value)]).expect("a short name");
        assert_eq!(folder_of("A+B"), "condition=A%2BB");
        assert_eq!(folder_of("a b/c=100%"), "condition=a%20b%2Fc%3D100%25");
        assert_eq!(folder_of("é"), "condition=%C3%A9");
        assert_eq!(folder_of("x-1_2.3~"), "condition=x-1_2.3~");
        assert_eq!(folder_of(""), "condition=__HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn one_folder_lies_in_the_other() {
        let folder = folder([("condition", "A"), ("cell type", "T/NK")]).expect("short names");
        assert_eq!(folder, "condition=A/cell%20type=T%2FNK");
    }

    #[test]
    fn a_name_that_no_file_system_takes_is_refused() {
        let error = folder([("condition", "+".repeat(90).as_str())]).expect_err("270 bytes");
        assert!(error.to_string().contains("condition"), "{error}");
    }
}
