//! Settings in four layers: flag over environment over file over default.
//!
//! A service has two structs in its `config.rs`. `Config` is what it runs with: it derives `Deserialize` with
//! `deny_unknown_fields`, its defaults are serde attributes beside the fields, and [`Settings::check`] judges what a
//! type cannot. `Args` is its command line: every field is an `Option` and carries the name of the setting that it
//! overrides. In the environment, `HANDOVER_KEEPALIVE__INTERVAL=2s` is `interval` of the table `keepalive`.
//!
//! Every error names the setting, its value, and where the value came from.

pub mod address;
mod effective;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use model::Name;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::auth::{Auth, AuthError};
use crate::dial::Wire;
use crate::tls::{Role, TlsError};
pub use effective::{HIDDEN, Setting, text};

const ENV_PREFIX: &str = "HANDOVER_";

/// The cluster that processes belong to if none is set.
pub fn default_cluster() -> Name {
    const { Name::literal("handover") }
}

/// The settings of one service.
pub trait Settings: DeserializeOwned + Serialize {
    /// What processes with these settings are there for.
    const ROLE: Role;

    /// Judges what the types of single settings cannot express.
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// How this service logs.
    fn log(&self) -> &crate::telemetry::Log;

    /// The cluster, and the name of this process in it.
    fn who(&self) -> (Name, Name);

    /// Where this service takes connections.
    fn listen(&self) -> SocketAddr;

    /// How it takes and makes them.
    ///
    /// # Errors
    /// If the files that show who this process is are of no use.
    fn wire(&self) -> Result<Wire, TlsError>;

    /// Which tokens of clients are good, if they are asked for them.
    ///
    /// # Errors
    /// If the files that say so are of no use.
    fn auth(&self) -> Result<Option<Auth>, AuthError>;
}

/// A setting whose value has the right type and is wrong nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The setting, with its tables: `keepalive.interval`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

/// Why there are no settings to run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The configuration file that was asked for is not there.
    #[error("no configuration file {}", .0.display())]
    NoFile(PathBuf),
    /// The configuration file is not TOML.
    #[error("{origin} is not valid TOML: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// What the parser says.
        reason: String,
    },
    /// A variable of ours is not text.
    #[error("the variable {} is not text in UTF-8", .0.display())]
    NotText(OsString),
    /// A setting of this name does not exist.
    #[error("unknown setting `{key}` in {origin}{}", .suggestion.as_ref().map(|it| format!("; did you mean `{it}`?")).unwrap_or_default())]
    Unknown {
        /// The name, with its tables.
        key: String,
        /// Where it was set.
        origin: String,
        /// A setting of a similar name.
        suggestion: Option<String>,
    },
    /// A setting without a default was not given.
    #[error("the setting `{key}` is missing: give {}, {} or `{key}` in the configuration file", flag_of(.key), variable_of(.key))]
    Missing {
        /// The name, with its tables.
        key: String,
    },
    /// The value does not fit the setting.
    #[error("bad value for `{key}`: {given}: {reason}")]
    Invalid {
        /// The name, with its tables.
        key: String,
        /// The value, and where it was set.
        given: String,
        /// What would fit, or what is wrong.
        reason: String,
    },
}

/// Reads settings from `file`, from the `HANDOVER_...` variables in `env`, and from `flags`, each over the one before.
pub fn load<C: Settings>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &impl Serialize,
) -> Result<C, SettingsError> {
    load_with_origins(file, env, flags).map(|(config, _)| config)
}

/// As [`load`], with all settings one by one, and where each of them comes from.
pub(crate) fn load_with_origins<C: Settings>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &impl Serialize,
) -> Result<(C, Vec<Setting>), SettingsError> {
    let mut layers = Figment::new();
    if let Some(path) = file {
        if !path.is_file() {
            return Err(SettingsError::NoFile(path.to_owned()));
        }
        layers = layers.merge(Toml::file_exact(path));
    }
    layers = layers.merge(Environment::of(env)).merge(Flags::of(flags)?);
    let config: C = layers.extract_lossy().map_err(|error| explain(&layers, &error))?;
    config.check().map_err(|invalid| invalid_value(&layers, invalid.key.to_owned(), invalid.reason))?;
    let settings = effective::effective(&config, &layers);
    Ok((config, settings))
}

/// The variables of the environment that can be settings. Those of other programs need not be text.
pub(crate) fn variables(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, SettingsError> {
    let is_ours = |name: &OsString| name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes());
    env.into_iter()
        .filter(|(name, _)| is_ours(name))
        .map(|(name, value)| match (name.to_str(), value.into_string()) {
            (Some(text), Ok(value)) => Ok((text.to_owned(), value)),
            _ => Err(SettingsError::NotText(name)),
        })
        .collect()
}

/// Reads a list that may also be written as one text with commas, which is what an environment variable can hold.
pub fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Text(String),
        Items(Vec<String>),
    }
    let items = match List::deserialize(deserializer)? {
        List::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
        List::Items(items) => items,
    };
    items
        .into_iter()
        .filter(|item| !item.is_empty())
        .map(|item| T::deserialize(item.into_deserializer()))
        .collect()
}

/// The environment as a layer. Values stay text: the setting that takes one knows its type.
struct Environment(Vec<(String, String)>);

impl Environment {
    fn of(env: impl IntoIterator<Item = (String, String)>) -> Environment {
        let key_of = |name: &str| Some(name.strip_prefix(ENV_PREFIX)?.to_lowercase().replace("__", "."));
        Environment(env.into_iter().filter_map(|(name, value)| Some((key_of(&name)?, value))).collect())
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment").interpolater(|_, keys| variable_of(&keys.join(".")))
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut all = Dict::new();
        for (key, value) in &self.0 {
            insert(&mut all, key, value);
        }
        Ok(Map::from([(Profile::Default, all)]))
    }
}

fn insert(table: &mut Dict, key: &str, value: &str) {
    let Some((name, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), Value::from(value));
        return;
    };
    let nested = table.entry(name.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, nested) = nested {
        insert(nested, rest, value);
    }
}

/// The command line as a layer: what was not given is not there.
struct Flags(Dict);

impl Flags {
    fn of(flags: &impl Serialize) -> Result<Flags, SettingsError> {
        let value = Value::serialize(flags).map_err(|error| SettingsError::Syntax {
            origin: "the command line".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Flags(value.into_dict().map(given).unwrap_or_default()))
    }
}

fn given(all: Dict) -> Dict {
    let keep = |(key, value): (String, Value)| match value {
        Value::Empty(..) => None,
        Value::Dict(tag, nested) => {
            let nested = given(nested);
            (!nested.is_empty()).then_some((key, Value::Dict(tag, nested)))
        }
        other @ (Value::String(..)
        | Value::Char(..)
        | Value::Bool(..)
        | Value::Num(..)
        | Value::Array(..)) => Some((key, other)),
    };
    all.into_iter().filter_map(keep).collect()
}

impl Provider for Flags {
    fn metadata(&self) -> Metadata {
        Metadata::named("the command line").interpolater(|_, keys| flag_of(&keys.join(".")))
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

/// The flag of a setting is called after it and its table. The table `sessions` is what a service is about, and its
/// flags go without its name.
fn flag_of(key: &str) -> String {
    let name = key.strip_prefix("sessions.").unwrap_or(key);
    format!("--{}", name.replace(['.', '_'], "-"))
}

fn variable_of(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

fn explain(layers: &Figment, error: &figment::Error) -> SettingsError {
    let key_of =
        |name: &str| error.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
    let key = error.path.join(".");
    let expected = |wanted: &str| format!("expected {wanted}");
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let name =
                error.path.last().filter(|last| *last == name).map_or_else(|| key_of(name), |_| key.clone());
            unknown(layers, name, known)
        }
        Kind::MissingField(name) => SettingsError::Missing { key: key_of(name) },
        Kind::Message(reason) if key.is_empty() => SettingsError::Syntax {
            origin: error.metadata.as_ref().map_or_else(String::new, origin_of),
            reason: reason.clone(),
        },
        Kind::Message(reason) => invalid_value(layers, key, reason.clone()),
        Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) | Kind::InvalidLength(_, wanted) => {
            invalid_value(layers, key, expected(wanted))
        }
        Kind::UnknownVariant(_, known) => invalid_value(layers, key, expected(&known.join(", "))),
        Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => invalid_value(layers, key, error.kind.to_string()),
    }
}

fn unknown(layers: &Figment, key: String, known: &[&str]) -> SettingsError {
    /// Below this, a name is not a misspelling but another word.
    const SIMILAR: f64 = 0.7;
    let (tables, name) = key.rsplit_once('.').map_or(("", key.as_str()), |(tables, name)| (tables, name));
    let suggestion = known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, best)| if tables.is_empty() { (*best).to_owned() } else { format!("{tables}.{best}") });
    SettingsError::Unknown { origin: origin(layers, &key), key, suggestion }
}

fn invalid_value(layers: &Figment, key: String, reason: String) -> SettingsError {
    let value = layers.find_value(&key).ok().and_then(|value| serde_json::to_string(&value).ok());
    let given = value.map(|value| format!("{value} from {}", origin(layers, &key)));
    SettingsError::Invalid { given: given.unwrap_or_else(|| "its default".to_owned()), key, reason }
}

/// Where `key` was set: the flag, the variable, or the file.
fn origin(layers: &Figment, key: &str) -> String {
    if let Ok(Value::Dict(_, table)) = layers.find_value(key) {
        // Parts of a table are given one by one.
        let parts = table.keys().map(|part| origin(layers, &format!("{key}.{part}")));
        return parts.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    }
    let Some(metadata) = layers.find_metadata(key) else { return "nowhere".to_owned() };
    match metadata.source {
        Some(_) => origin_of(metadata),
        None => metadata.interpolate(&Profile::Default, &key.split('.').collect::<Vec<_>>()),
    }
}

fn origin_of(metadata: &Metadata) -> String {
    match metadata.source.as_ref().and_then(figment::Source::file_path) {
        Some(path) => path.display().to_string(),
        None => metadata.name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::unix::ffi::OsStringExt;
    use std::time::Duration;

    use model::Address;

    use super::*;
    use crate::dial::{Keepalive, KeepaliveArgs};
    use crate::telemetry::{Format, Log, LogArgs};

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        name: Name,
        #[serde(default = "default_port")]
        port: u16,
        #[serde(default, deserialize_with = "list")]
        membership: Vec<Address>,
        #[serde(default)]
        log: Log,
        #[serde(default)]
        keepalive: Keepalive,
    }

    fn default_port() -> u16 {
        7400
    }

    impl Settings for Config {
        const ROLE: Role = Role::Server;

        fn check(&self) -> Result<(), Invalid> {
            let longer = self.keepalive.timeout >= self.keepalive.interval;
            let reason = || "must not be shorter than `keepalive.interval`".to_owned();
            longer.then_some(()).ok_or_else(|| Invalid { key: "keepalive.timeout", reason: reason() })
        }

        fn who(&self) -> (Name, Name) {
            (default_cluster(), self.name)
        }

        fn log(&self) -> &Log {
            &self.log
        }

        fn listen(&self) -> SocketAddr {
            (Ipv4Addr::LOCALHOST, self.port).into()
        }

        fn wire(&self) -> Result<Wire, TlsError> {
            Ok(Wire::default())
        }

        fn auth(&self) -> Result<Option<Auth>, AuthError> {
            Ok(None)
        }
    }

    #[derive(Default, Serialize)]
    struct Args {
        name: Option<String>,
        port: Option<u16>,
        membership: Option<Vec<String>>,
        log: LogArgs,
        keepalive: KeepaliveArgs,
    }

    fn read(file: &str, env: &[(&str, &str)], args: Args) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gcs.toml");
        std::fs::write(&path, file).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let place = format!("{}/", dir.path().display());
        load(Some(&path), env, &args).map_err(|error| error.to_string().replace(&place, ""))
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let file = "name = 'file'\nport = 1\n[keepalive]\ninterval = '250ms'\n";
        let config = read("name = 'file'", &[], Args::default()).unwrap();
        assert_eq!((config.name.as_str(), config.port), ("file", 7400));
        let config = read(file, &[("HANDOVER_PORT", "2"), ("OTHER_PORT", "9")], Args::default()).unwrap();
        assert_eq!((config.port, config.keepalive.interval), (2, Duration::from_millis(250)));
        let flags = Args {
            port: Some(3),
            log: LogArgs { format: Some(Format::Json), level: None },
            ..Args::default()
        };
        let env = [("HANDOVER_PORT", "2"), ("HANDOVER_NAME", "7"), ("HANDOVER_LOG__LEVEL", "debug")];
        let config = read(file, &env, flags).unwrap();
        assert_eq!((config.name.as_str(), config.port, config.log.format), ("7", 3, Format::Json));
    }

    #[test]
    fn variables_of_other_programs_need_not_be_text() {
        let not_text = || OsString::from_vec(b"caf\xe9".to_vec());
        let good = || ("HANDOVER_PORT".into(), "2".into());
        let read = variables([good(), ("OTHER".into(), not_text()), (not_text(), "x".into())]).unwrap();
        assert_eq!(read, [("HANDOVER_PORT".to_owned(), "2".to_owned())]);
        let refused = variables([good(), ("HANDOVER_NAME".into(), not_text())]).unwrap_err();
        assert_eq!(refused.to_string(), "the variable HANDOVER_NAME is not text in UTF-8");
        let misnamed = OsString::from_vec(b"HANDOVER_\xe9".to_vec());
        assert!(variables([(misnamed, "x".into())]).is_err());
    }

    #[test]
    fn each_setting_is_told_with_what_set_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gcs.toml");
        std::fs::write(&path, "name = 'a'\nport = 1\n[keepalive]\ninterval = '250ms'\n").unwrap();
        let env = [("HANDOVER_PORT", "2"), ("HANDOVER_MEMBERSHIP", "a:1,b:2")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let flags = Args { log: LogArgs { format: Some(Format::Json), level: None }, ..Args::default() };
        let (_, settings) = load_with_origins::<Config>(Some(&path), env, &flags).unwrap();
        let file = path.display().to_string();
        let told: Vec<_> =
            settings.iter().map(|it| (it.key.as_str(), it.value.as_str(), it.origin.as_str())).collect();
        let expected = [
            ("keepalive.interval", "\"250ms\"", file.as_str()),
            ("keepalive.timeout", "\"2s\"", "default"),
            ("log.format", "\"json\"", "--log-format"),
            ("log.level", "\"info\"", "default"),
            ("membership", "[\"a:1\",\"b:2\"]", "HANDOVER_MEMBERSHIP"),
            ("name", "\"a\"", file.as_str()),
            ("port", "2", "HANDOVER_PORT"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_list_is_a_list_or_one_text_with_commas() {
        let wanted = [Address::new("a:1"), Address::new("b:2")];
        let file = "name = 'x'\nmembership = ['a:1', 'b:2']";
        assert_eq!(read(file, &[], Args::default()).unwrap().membership, wanted);
        let env = [("HANDOVER_MEMBERSHIP", "a:1, b:2")];
        assert_eq!(read("name = 'x'", &env, Args::default()).unwrap().membership, wanted);
        let flags = Args { membership: Some(vec!["a:1".into(), "b:2".into()]), ..Args::default() };
        assert_eq!(read("name = 'x'", &[], flags).unwrap().membership, wanted);
    }

    #[test]
    fn an_error_names_the_setting_its_value_and_its_origin() {
        let silence = Args {
            keepalive: KeepaliveArgs { interval: Some("3s".into()), timeout: None },
            ..Args::default()
        };
        let nothing = Args::default;
        for (file, env, args, message) in [
            (
                "",
                &[][..],
                nothing(),
                "the setting `name` is missing: give --name, HANDOVER_NAME or `name` in the configuration file",
            ),
            (
                "name = 'a'\nprot = 1",
                &[],
                nothing(),
                "unknown setting `prot` in gcs.toml; did you mean `port`?",
            ),
            ("name = 'a'\ncolour = 1", &[], nothing(), "unknown setting `colour` in gcs.toml"),
            (
                "name = 'a'",
                &[("HANDOVER_KEEPALIVE__INTERVALL", "1s")],
                nothing(),
                "unknown setting `keepalive.intervall` in HANDOVER_KEEPALIVE__INTERVALL; did you mean `keepalive.interval`?",
            ),
            (
                "name = 'a'",
                &[("HANDOVER_PORT", "many")],
                nothing(),
                "bad value for `port`: \"many\" from HANDOVER_PORT: expected u16",
            ),
            (
                "name = 'a'\nport = 70000",
                &[],
                nothing(),
                "bad value for `port`: 70000 from gcs.toml: expected u16",
            ),
            (
                "name = 'A B'",
                &[],
                nothing(),
                "bad value for `name`: \"A B\" from gcs.toml: a name is 1 to 31 characters, each a lower-case letter, a digit, '-', '_' or '.'",
            ),
            (
                "name = 'a'\n[keepalive]\ntimeout = 'soon'",
                &[],
                nothing(),
                "bad value for `keepalive.timeout`: \"soon\" from gcs.toml: expected a duration",
            ),
            (
                "name = 'a'\n[keepalive]\ntimeout = '1ms'",
                &[],
                nothing(),
                "bad value for `keepalive.timeout`: \"1ms\" from gcs.toml: must not be shorter than `keepalive.interval`",
            ),
            (
                "name = 'a'",
                &[],
                silence,
                "bad value for `keepalive.timeout`: its default: must not be shorter than `keepalive.interval`",
            ),
            (
                "name = 'a'\n[log]\nformat = 'xml'",
                &[],
                nothing(),
                "bad value for `log.format`: \"xml\" from gcs.toml: expected auto, text, json",
            ),
        ] {
            let found = read(file, env, args).err().unwrap_or_default();
            assert_eq!(found, message, "{file} {env:?}");
        }
    }

    #[test]
    fn a_table_comes_from_where_its_parts_do() {
        let log = LogArgs { format: Some(Format::Json), level: Some("debug".into()) };
        let layers = Figment::from(Flags::of(&Args { log, ..Args::default() }).unwrap());
        assert_eq!(origin(&layers, "log"), "--log-format, --log-level");
    }

    #[test]
    fn a_file_that_is_missing_or_not_toml_is_named() {
        let path = Path::new("/nonexistent/gcs.toml");
        let missing = load::<Config>(Some(path), [], &Args::default()).unwrap_err();
        assert_eq!(missing.to_string(), "no configuration file /nonexistent/gcs.toml");
        let broken = read("name = ", &[], Args::default()).unwrap_err();
        assert!(broken.starts_with("gcs.toml is not valid TOML: "), "{broken}");
    }
}
