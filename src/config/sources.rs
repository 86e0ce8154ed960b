//! Where values come from and which one wins: flag, then environment, then file; else the default.
//!
//! Knows names, never meanings. It gathers every problem instead of stopping at the first, and shows no
//! value of a secret.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::names::{self, Flags, VARIABLES, Variable};
use super::values::Read;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This flag.
    Flag(&'static str),
    /// The environment.
    Environment,
    /// The file of settings.
    File(PathBuf),
    /// The file that a `…_FILE` variable names.
    SecretFile(PathBuf),
    /// Nowhere.
    Absent,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => write!(f, "from {flag}"),
            Source::Environment => f.write_str("from the environment"),
            Source::File(path) => write!(f, "from {}", path.display()),
            Source::SecretFile(path) => write!(f, "from the secret file {}", path.display()),
            Source::Absent => f.write_str("not set"),
        }
    }
}

/// Why the service can't start with this configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} ({origin}){}: {mend}", shown.as_ref().map(|value| format!(" is {value:?}")).unwrap_or_default())]
pub struct Problem {
    /// The variable, or the key as the file has it.
    pub variable: String,
    /// Where its value was given.
    pub origin: Source,
    /// The value, unless it is or may hold a secret.
    pub shown: Option<String>,
    /// What is wrong and what to do.
    pub mend: String,
}

/// Something that is probably a mistake, and does not stop the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {advice}")]
pub struct Warning {
    /// The variable it is about.
    pub variable: String,
    /// What to do.
    pub advice: String,
}

/// The winning value of each variable, and all that was found wrong on the way.
pub(super) struct Given {
    values: BTreeMap<&'static str, (String, Source)>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

/// One place to look a name up in.
type Level<'a> = dyn Fn(&str) -> Option<(Result<String, String>, Source)> + 'a;

impl Given {
    /// Gathers from all sources; `read` opens the settings file and secret files.
    pub fn gather(
        flags: &Flags,
        env: impl Iterator<Item = (OsString, OsString)>,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Self {
        let env: BTreeMap<String, OsString> =
            env.filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        let mut given = Self { values: BTreeMap::new(), problems: Vec::new(), warnings: Vec::new() };
        given.warn_of_unknown(&env);
        let path = flags.config.as_deref();
        let file = path.map(|path| given.settings_file(path, read)).unwrap_or_default();
        let from_env = |name: &str| {
            let value = env.get(name).filter(|value| !(value.is_empty() && empty_is_unset(name)))?;
            let text = value.clone().into_string().map_err(|_| "is not UTF-8: write it anew".to_owned());
            Some((text, Source::Environment))
        };
        let from_file = |name: &str| {
            let value = file.get(name)?.clone();
            Some((value, Source::File(path.unwrap_or(Path::new("")).to_owned())))
        };
        for variable in VARIABLES {
            let from_flag = |name: &str| {
                let text = (variable.flagged)(flags).filter(|_| name == variable.name)?;
                Some((Ok(text.to_owned()), Source::Flag(variable.flag.unwrap_or_default())))
            };
            let levels: [&Level<'_>; 3] = [&from_flag, &from_env, &from_file];
            let mut found = levels.iter().filter_map(|level| look(variable, *level, read));
            match found.next() {
                Some(Ok(value)) => {
                    given.values.insert(variable.name, value);
                }
                Some(Err(problem)) => given.problems.push(problem),
                None => {}
            }
        }
        given
    }

    /// Reads one variable's value, if it was given and is well formed.
    pub fn take<T>(&mut self, name: &'static str, reader: impl Fn(&str) -> Read<T>) -> Option<T> {
        let (text, _) = self.values.get(name)?;
        let outcome = if text.is_empty() {
            Err("is set but empty: give it a value, or unset it".to_owned())
        } else {
            reader(text)
        };
        outcome.map_err(|mend| self.refuse(name, mend)).ok()
    }

    /// Where the value was given.
    pub fn origin(&self, name: &'static str) -> Source {
        self.values.get(name).map_or(Source::Absent, |(_, source)| source.clone())
    }

    /// Notes that a variable's value can't be used.
    pub fn refuse(&mut self, name: &'static str, mend: String) {
        let (shown, origin) = match self.values.get(name) {
            Some((text, source)) => (showable(name, text), source.clone()),
            None => (None, Source::Absent),
        };
        self.problems.push(Problem { variable: name.to_owned(), origin, shown, mend });
    }

    /// Notes advice about a variable.
    pub fn warn(&mut self, name: &str, advice: String) {
        self.warnings.push(Warning { variable: name.to_owned(), advice });
    }

    fn warn_of_unknown(&mut self, env: &BTreeMap<String, OsString>) {
        for (name, value) in env {
            let Some((edits, nearest)) = names::nearest(name).filter(|(_, nearest)| nearest != name) else {
                continue;
            };
            // Other programs read STRIPE_… too, so there only a slip of the pen is worth a word.
            let ours = name.starts_with("SLUICEGATE_") || (name.starts_with("STRIPE_") && edits <= 2);
            if ours && !names::injected_by_kubernetes(name, &value.to_string_lossy()) {
                self.warn(name, format!("unknown, so without effect; the nearest known is {nearest}"));
            }
        }
    }

    /// The settings file's values by variable; what is wrong with the file itself becomes problems.
    fn settings_file(
        &mut self,
        path: &Path,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> BTreeMap<String, Result<String, String>> {
        let mut values = BTreeMap::new();
        let problem = |variable: &str, mend: String| Problem {
            variable: variable.to_owned(),
            origin: Source::File(path.to_owned()),
            shown: None,
            mend,
        };
        let table = match read(path).map(|text| (text.parse::<toml::Table>(), text)) {
            Ok((Ok(table), _)) => table,
            Ok((Err(error), text)) => {
                // The error's own text quotes the line, and with it maybe a secret.
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                self.problems
                    .push(problem("--config", format!("is not TOML, line {line}: {}", error.message())));
                return values;
            }
            Err(error) => {
                self.problems.push(problem("--config", unreadable(&error)));
                return values;
            }
        };
        let known: Vec<String> = names::known_names().collect();
        for (key, value) in table {
            match known.iter().find(|name| **name == key || name.to_ascii_lowercase() == key) {
                Some(name) if values.contains_key(name) => {
                    self.problems.push(problem(&key, format!("{name} is there twice: leave one")));
                }
                Some(name) => {
                    values.insert(name.clone(), text_of(name, value));
                }
                None => {
                    let nearest = names::nearest(&key).map(|(_, name)| name.to_ascii_lowercase());
                    let mend =
                        format!("is an unknown key; the nearest known is {}", nearest.unwrap_or_default());
                    self.problems.push(problem(&key, mend));
                }
            }
        }
        values
    }
}

/// Looks one variable up in one level, following the file that may hold a secret.
fn look(
    variable: &Variable,
    level: &Level<'_>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Option<Result<(String, Source), Problem>> {
    let problem = |name: &str, origin, mend| {
        Some(Err(Problem { variable: name.to_owned(), origin, shown: None, mend }))
    };
    let file_name = variable.file_name().unwrap_or_default();
    match (level(variable.name), level(&file_name).filter(|_| variable.secret)) {
        (Some((_, source)), Some(_)) => {
            let mend = format!("{file_name} is set as well: unset one of the two");
            problem(variable.name, source, mend)
        }
        (Some((Ok(text), source)), None) => Some(Ok((text, source))),
        (Some((Err(mend), source)), None) => problem(variable.name, source, mend),
        (None, Some((Ok(path), source))) => match read(Path::new(&path)) {
            Ok(text) => {
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                Some(Ok((text, Source::SecretFile(path.into()))))
            }
            // The path is not shown: where somebody put the secret itself, it would be.
            Err(error) => problem(&file_name, source, unreadable(&error)),
        },
        (None, Some((Err(mend), source))) => problem(&file_name, source, mend),
        (None, None) => None,
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("the file can't be read ({error}): mend its path or permissions")
}

/// A file's value as the environment would have it.
fn text_of(name: &str, value: toml::Value) -> Result<String, String> {
    let list = VARIABLES.iter().any(|variable| variable.name == name && variable.list);
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Datetime(instant) => Ok(instant.to_string()),
        toml::Value::Array(entries) if list => {
            let texts = entries.into_iter().map(|entry| match entry {
                toml::Value::String(text) => Ok(text),
                _ => Err("an array here holds only strings, each in quotes".to_owned()),
            });
            texts.collect::<Result<Vec<_>, _>>().map(|texts| texts.join(","))
        }
        _ if list => Err("must be a string or an array of strings".to_owned()),
        _ => Err("must be a string, in quotes".to_owned()),
    }
}

/// The value where it may be shown: not a secret's, nor one that looks as if a secret strayed there.
fn showable(name: &str, text: &str) -> Option<String> {
    let secret = VARIABLES.iter().any(|variable| variable.name == name && variable.secret);
    let strayed = ["sk_", "rk_", "whsec_", "@"].iter().any(|sign| text.contains(sign));
    (!secret && !strayed && text.len() <= 200).then(|| text.to_owned())
}

/// The conventions of these two, which are not ours, say that empty means unset.
fn empty_is_unset(name: &str) -> bool {
    matches!(name, "RUST_LOG" | "OTEL_EXPORTER_OTLP_ENDPOINT")
}
