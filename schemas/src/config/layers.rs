//! Layers of settings: a preset, a file, assignments.

use super::{Preset, Settings};
use crate::{Error, Result};

impl Settings {
    /// Settings from a preset, overridden by a TOML text and by `section.key=value` assignments.
    ///
    /// # Errors
    /// Invalid TOML, unknown keys, or values of another type.
    pub fn layered(preset: Preset, file: Option<(&str, &str)>, assignments: &[String]) -> Result<Self> {
        let as_table = |preset: Preset| toml::Table::try_from(preset.settings());
        let mut table = as_table(preset).map_err(|error| Error::Bug(error.to_string()))?;
        if let Some((path, text)) = file {
            let over: toml::Table = text.parse().map_err(|error: toml::de::Error| {
                Error::data(path, error.to_string(), "see docs/model.md for the settings")
            })?;
            // If the file names a preset, the rest of the file overrides that preset.
            let named = over.get("preset").and_then(toml::Value::as_str);
            if let Some(named) = Preset::ALL.into_iter().find(|preset| Some(preset.name()) == named) {
                table = as_table(named).map_err(|error| Error::Bug(error.to_string()))?;
            }
            overlay(&mut table, over);
            Self::from_table(table.clone())
                .map_err(|message| Error::data(path, message, "see docs/model.md for the settings"))?;
        }
        for assignment in assignments {
            let hint = "write --set section.key=value, as in --set model.n_latent=64";
            let (key, value) = assignment
                .split_once('=')
                .ok_or_else(|| Error::usage(format!("`{assignment}` is not an assignment"), hint))?;
            let value =
                format!("value = {value}").parse::<toml::Table>().or_else(|_| format!("value = {value:?}").parse());
            let value = value.ok().and_then(|mut parsed| parsed.remove("value"));
            let value =
                value.ok_or_else(|| Error::usage(format!("`{assignment}` has a value that can't be parsed"), hint))?;
            let over =
                key.rsplit('.').fold(value, |inner, name| toml::Table::from_iter([(name.to_owned(), inner)]).into());
            let known = names(&table);
            if let toml::Value::Table(over) = over {
                overlay(&mut table, over);
            }
            Self::from_table(table.clone()).map_err(|message| match message.contains("unknown field") {
                true => {
                    let unknown = Error::unknown("setting", key, known.iter().map(String::as_str));
                    Error::usage(unknown.to_string(), "`perturbine settings` lists all settings")
                }
                false => Error::usage(format!("`{assignment}`: {message}"), hint),
            })?;
        }
        Self::from_table(table).map_err(Error::Bug)
    }

    fn from_table(table: toml::Table) -> Result<Self, String> {
        table.try_into().map_err(|error: toml::de::Error| error.to_string().trim().replace('\n', " "))
    }

    /// All settings as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are TOML")
    }
}

/// The names of settings, as in `train.lr`.
fn names(table: &toml::Table) -> Vec<String> {
    let of_section = |(section, value): (&String, &toml::Value)| match value {
        toml::Value::Table(settings) => settings.keys().map(|name| format!("{section}.{name}")).collect(),
        _ => vec![section.clone()],
    };
    table.iter().flat_map(of_section).collect()
}

fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => overlay(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
