//! The command line of ld-relay, read as Go's `flag` package does (U126, U127).

use std::fmt;
use std::path::PathBuf;

use super::CompatError;

/// File that is read if the command line names no source.
const DEFAULT_FILE: &str = "/etc/ld-relay.conf";

/// Description of all flags.
pub const USAGE: &str = "\
Runs the gateway with the configuration of ld-relay (LaunchDarkly Relay Proxy 8.0 to 9.0), unchanged.

Usage: yardarm ld-relay [FLAGS]                also as a program of the name `ld-relay` or `ldr`

  -config FILE         configuration file [without any flag: /etc/ld-relay.conf]
  -allow-missing-file  a missing file is no error
  -from-env            read environment variables, after the file
  -version             print the version and end

Every variable YARDARM_… applies as well and wins, such as YARDARM_PLUGINS_DIR, YARDARM_ADMIN_LISTEN and YARDARM_DATA_DIR
(last good data, for a start while LaunchDarkly is down). `yardarm check ld-relay [FLAGS]` explains where each value comes
from, and `yardarm convert ld-relay [FLAGS]` writes the same settings as a file for `yardarm run`.

Exit codes: 0 after SIGTERM, or at the end of one-shot mode; 1 everything else.
";

/// The sources of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The file, if one is read.
    pub file: Option<PathBuf>,
    /// Whether variables are read.
    pub from_env: bool,
    /// Whether only the version is printed.
    pub prints_version: bool,
}

impl Arguments {
    /// Reads flags; `exists` returns whether a file exists.
    ///
    /// # Errors
    /// When a flag is unknown or malformed, or the file does not exist.
    pub fn read(arguments: &[String], exists: impl Fn(&std::path::Path) -> bool) -> Result<Self, CompatError> {
        let mut read = Self::default();
        let mut allows_missing = false;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            // Like Go, this ends at the first argument that is no flag, or after `--`.
            let Some(flag) = argument.strip_prefix('-').filter(|it| !it.is_empty()) else { break };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            if flag.is_empty() {
                break;
            }
            if flag.starts_with(['-', '=']) {
                return Err(CompatError::Usage(format!("bad flag syntax: {argument}")));
            }
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            match name {
                "config" => {
                    let value = value.or_else(|| rest.next().map(String::as_str));
                    let value = value.ok_or_else(|| CompatError::Usage(format!("flag needs an argument: -{name}")))?;
                    read.file = Some(value.into()).filter(|_| !value.is_empty());
                }
                "allow-missing-file" => allows_missing = switch(name, value)?,
                "from-env" => read.from_env = switch(name, value)?,
                "version" => read.prints_version = switch(name, value)?,
                "h" | "help" => return Err(CompatError::Usage("flag: help requested".to_owned())),
                _ => return Err(CompatError::Usage(format!("flag provided but not defined: -{name}"))),
            }
        }
        if read.prints_version {
            return Ok(read);
        }
        if read.file.is_none() && !read.from_env {
            read.file = Some(DEFAULT_FILE.into());
        }
        if let Some(path) = read.file.as_deref().filter(|it| !exists(it)) {
            if !allows_missing {
                let path = path.display().to_string();
                return Err(CompatError::Usage(format!("configuration file {path:?} does not exist")));
            }
            read.file = None;
        }
        Ok(read)
    }
}

/// Names the sources as ld-relay does in its first line.
impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.from_env) {
            (None, true) => f.write_str("configuration from environment variables"),
            (None, false) => f.write_str("no configuration"),
            (Some(file), false) => write!(f, "configuration file {}", file.display()),
            (Some(file), true) => write!(f, "configuration file {} plus environment variables", file.display()),
        }
    }
}

fn switch(name: &str, value: Option<&str>) -> Result<bool, CompatError> {
    match value.unwrap_or("true") {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(CompatError::Usage(format!("invalid boolean value {other:?} for -{name}: parse error"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, exists: bool) -> Result<(Option<String>, bool, String), String> {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let read = Arguments::read(&arguments, |_| exists).map_err(|error| error.to_string())?;
        Ok((read.file.as_ref().map(|it| it.display().to_string()), read.from_env, read.to_string()))
    }

    #[test]
    fn u126_u127_flags_are_those_of_go() {
        let etc = Some(DEFAULT_FILE.to_owned());
        let file = Some("x".to_owned());
        for (line, exists, expected) in [
            ("", true, Ok((etc.clone(), false, "configuration file /etc/ld-relay.conf"))),
            ("", false, Err("Error: configuration file \"/etc/ld-relay.conf\" does not exist")),
            ("--allow-missing-file", false, Ok((None, false, "no configuration"))),
            (
                "-config x -allow-missing-file -from-env",
                false,
                Ok((None, true, "configuration from environment variables")),
            ),
            (
                "--config=x --from-env",
                true,
                Ok((file.clone(), true, "configuration file x plus environment variables")),
            ),
            ("-from-env=false -config x", true, Ok((file.clone(), false, "configuration file x"))),
            ("-from-env=T", false, Ok((None, true, "configuration from environment variables"))),
            ("-config x word -from-env", true, Ok((file.clone(), false, "configuration file x"))),
            ("-config x -- -from-env", true, Ok((file, false, "configuration file x"))),
            ("-config=", true, Ok((etc, false, "configuration file /etc/ld-relay.conf"))),
            ("-config x", false, Err("Error: configuration file \"x\" does not exist")),
            ("-config", true, Err("Error: flag needs an argument: -config")),
            ("-from-env=yes", true, Err("Error: invalid boolean value \"yes\" for -from-env: parse error")),
            ("-port 1", true, Err("Error: flag provided but not defined: -port")),
            ("---config x", true, Err("Error: bad flag syntax: ---config")),
            ("--help", true, Err("Error: flag: help requested")),
            ("-version", false, Ok((None, false, "no configuration"))),
        ] {
            let expected = expected.map(|(file, from_env, shown)| (file, from_env, shown.to_owned()));
            assert_eq!(read(line, exists), expected.map_err(str::to_owned), "{line}");
        }
    }
}
