//! `presets`, `settings` and `completions`: what a user can choose from.

use clap_complete::generate;
use polars::prelude::DataFrame;
use serde_json::{Value, json};

use super::{
    CommandContext,
    args::{CompletionsArgs, SettingsQueryArgs},
    help,
    inspect::{column, table_of},
    show::print,
};
use schemas::{
    Error, Result,
    config::{Preset, Settings},
};

/// The page that says what every setting means.
const PAGE: &str = include_str!("../../docs/model.md");
/// Where its tables begin and end.
const BEGIN: &str = "## Every setting";
const END: &str = "### The preset";
/// The preset that commands start from.
const USUAL: Preset = Preset::Residual;
/// Width of text where tables may have any.
const UNLIMITED: usize = 100;
/// Mathematical notation of the page, and how it is printed.
const SYMBOLS: [(&str, &str); 8] = [
    ("\\lambda", "λ"),
    ("\\rho", "ρ"),
    ("\\kappa", "κ"),
    ("\\alpha", "α"),
    ("\\theta", "θ"),
    ("\\mu", "μ"),
    ("$", ""),
    ("`", ""),
];

/// A setting as the page describes it.
struct DescribedSetting {
    name: String,
    default: String,
    meaning: String,
}

pub(super) fn presets(context: &CommandContext) -> Result<()> {
    let table = table_of(vec![
        column("preset", Preset::ALL.map(|preset| preset.name().to_owned()).to_vec()),
        column("for", Preset::ALL.map(|preset| preset.purpose().to_owned()).to_vec()),
    ])?;
    let bug = |error: serde_json::Error| Error::Bug(error.to_string());
    let presets = Preset::ALL.into_iter().map(|preset| {
        let settings = serde_json::to_value(preset.settings()).map_err(bug)?;
        let usual = preset == USUAL;
        Ok(json!({ "name": preset.name(), "for": preset.purpose(), "default": usual, "settings": settings }))
    });
    let value = json!({ "presets": presets.collect::<Result<Vec<Value>>>()? });
    context.show.result_with_table(&value, &table, || {
        let width = context.show.width.unwrap_or(UNLIMITED);
        let text = Preset::ALL.map(|preset| {
            let usual = if preset == USUAL { " (the default)" } else { "" };
            format!("{}{usual}\n{}", preset.name(), indented(preset.purpose(), width))
        });
        text.join("\n")
    })
}

pub(super) fn settings(args: &SettingsQueryArgs, context: &CommandContext) -> Result<()> {
    let (defaults, usual) = (flat(&Settings::default())?, flat(&USUAL.settings())?);
    let all = described();
    let matches = |setting: &&DescribedSetting| match &args.name {
        Some(name) => {
            setting.name == *name
                || setting.name.starts_with(&format!("{name}."))
                || setting.name.ends_with(&format!(".{name}"))
        }
        None => true,
    };
    let chosen: Vec<&DescribedSetting> = all.iter().filter(matches).collect();
    if chosen.is_empty() {
        let name = args.name.as_deref().unwrap_or_default();
        return Err(Error::unknown("setting", name, all.iter().map(|setting| setting.name.as_str())));
    }
    // Settings without a value are described alone.
    let value_of = |settings: &[(String, String)], setting: &DescribedSetting| {
        let known = settings.iter().find(|(known, _)| *known == setting.name);
        known.map_or_else(|| setting.default.clone(), |(_, value)| value.clone())
    };
    let rows: Vec<[String; 4]> = chosen
        .iter()
        .map(|setting| {
            let (default, usual) = (value_of(&defaults, setting), value_of(&usual, setting));
            [setting.name.clone(), default, usual, setting.meaning.clone()]
        })
        .collect();
    let table = settings_table(&rows)?;
    let value = rows.iter().map(|[name, default, usual, meaning]| {
        json!({ "name": name, "default": default, USUAL.name(): usual, "meaning": meaning })
    });
    let value = json!({ "settings": value.collect::<Value>() });
    context.show.result_with_table(&value, &table, || {
        let width = context.show.width.unwrap_or(UNLIMITED);
        let text = rows.iter().map(|[name, default, usual, meaning]| {
            let differs = if usual == default { String::new() } else { format!("   ({}: {usual})", USUAL.name()) };
            format!("{name} = {default}{differs}\n{}", indented(meaning, width))
        });
        text.collect::<Vec<_>>().join("\n")
    })
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut help::command(), "perturbine", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

fn settings_table(rows: &[[String; 4]]) -> Result<DataFrame> {
    let names = ["setting", "default", USUAL.name(), "meaning"];
    let columns =
        (0..names.len()).map(|at| column(names[at], rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>()));
    table_of(columns.collect())
}

/// Every setting of the page, in its order.
fn described() -> Vec<DescribedSetting> {
    let text = PAGE.split(BEGIN).nth(1).and_then(|text| text.split(END).next()).unwrap_or_default();
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("`[").and_then(|rest| rest.strip_suffix("]`")) {
            section = format!("{name}.");
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let mut cells = row.trim_end_matches('|').splitn(3, '|').map(str::trim);
        let (Some(name), Some(default), Some(meaning)) = (cells.next(), cells.next(), cells.next()) else { continue };
        let name = format!("{section}{}", name.trim_end_matches('`'));
        found.push(DescribedSetting { name, default: plain(default), meaning: plain(meaning) });
    }
    found
}

/// Text of the page without links and mathematical notation.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        plain += before;
        match link.split_once("](").and_then(|(shown, target)| Some((shown, target.split_once(')')?.1))) {
            Some((shown, after)) if !shown.contains(']') => {
                plain += shown;
                rest = after;
            }
            _ => {
                plain.push('[');
                rest = link;
            }
        }
    }
    plain += rest;
    SYMBOLS.iter().fold(plain, |text, (notation, shown)| text.replace(notation, shown))
}

/// All settings by name, with their values as TOML has them.
fn flat(settings: &Settings) -> Result<Vec<(String, String)>> {
    let bug = |error: toml::ser::Error| Error::Bug(error.to_string());
    let mut all = Vec::new();
    for (section, value) in toml::Table::try_from(settings).map_err(bug)? {
        match value {
            toml::Value::Table(keys) => {
                all.extend(keys.iter().map(|(key, value)| (format!("{section}.{key}"), value.to_string())));
            }
            value => all.push((section, value.to_string())),
        }
    }
    Ok(all)
}

/// Words in lines of at most this width, four spaces in.
fn indented(text: &str, width: usize) -> String {
    let mut lines = vec![String::from("   ")];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].chars().count() + 1 + word.chars().count() > width && lines[last].trim() != "" {
            lines.push(format!("    {word}"));
        } else {
            lines[last] += &format!(" {word}");
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_describes_every_setting_with_its_default() {
        let defaults = flat(&Settings::default()).expect("settings are TOML");
        let described = described();
        for (name, value) in &defaults {
            let setting = described.iter().find(|setting| setting.name == *name);
            let setting = setting.unwrap_or_else(|| panic!("docs/model.md does not describe {name}"));
            let value = value.trim_matches('"');
            let same_number = match (value.parse::<f64>(), setting.default.parse::<f64>()) {
                (Ok(one), Ok(other)) => (one - other).abs() <= 1e-9 * one.abs(),
                _ => false,
            };
            assert!(value == setting.default || same_number, "{name}: {value}, but the page says {}", setting.default);
            assert!(!setting.meaning.is_empty(), "{name} has no meaning");
            assert!(!setting.meaning.contains(['$', '\\', '`']), "{name}: {}", setting.meaning);
        }
        for setting in &described {
            let is_optional = setting.default.is_empty();
            let is_known = defaults.iter().any(|(name, _)| *name == setting.name);
            assert!(is_known || is_optional, "{} is not a setting", setting.name);
        }
    }

    #[test]
    fn lines_are_no_wider_than_asked_for() {
        let text = indented(&"word ".repeat(40), 30);
        assert!(text.lines().count() > 5 && text.lines().all(|line| line.len() <= 30), "{text}");
    }
}
