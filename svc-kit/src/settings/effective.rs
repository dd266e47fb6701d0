//! The settings that a process runs with, one by one, and where each of them comes from: for operators.

use figment::Figment;
use serde::Serialize;
use serde_json::Value;

use super::origin;

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, with its tables.
    pub key: String,
    /// Its value, as JSON.
    pub value: String,
    /// What set it.
    pub origin: String,
}

/// What is told in place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// All settings of `config`, which was read from `layers`, by their keys.
pub(super) fn effective(config: &impl Serialize, layers: &Figment) -> Vec<Setting> {
    let mut settings = Vec::new();
    // What is no table of settings has none.
    if let Ok(Value::Object(table)) = serde_json::to_value(config) {
        table.into_iter().for_each(|(key, value)| spread(key, value, layers, &mut settings));
    }
    settings.sort_by(|one, other| one.key.cmp(&other.key));
    settings
}

fn spread(key: String, value: Value, layers: &Figment, settings: &mut Vec<Setting>) {
    if let Value::Object(table) = value {
        for (name, value) in table {
            spread(format!("{key}.{name}"), value, layers, settings);
        }
        return;
    }
    let is_set = layers.find_metadata(&key).is_some();
    let origin = if is_set { origin(layers, &key) } else { "default".to_owned() };
    settings.push(Setting { key, value: value.to_string(), origin });
}

/// Writes a setting as its text.
pub fn text<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
