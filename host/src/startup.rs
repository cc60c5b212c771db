//! Opens the resources that a start needs: addresses, certificate, data folder. `yardarm check` opens the same
//! resources by the same code and releases them.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;

use yardarm_core::data_folder::{DataFolder, DataFolderError};
use yardarm_vendor::side::StartError;
use yardarm_vendor::upstream::UpstreamTls;

use crate::config::Config;
use crate::exit::Exit;
use crate::listener::{Listener, Tls};
use crate::vendors::Vendors;

/// The open resources of a gateway.
pub(crate) struct Opened {
    pub(crate) listener: Listener,
    /// Listeners for one vendor each.
    pub(crate) own_listeners: Vec<(&'static str, Listener)>,
    pub(crate) admin: Listener,
    /// Listener of the metrics under the names of LaunchDarkly's relay.
    pub(crate) metrics: Option<Listener>,
    /// The certificate of the listeners of SDKs.
    pub(crate) tls: Option<Tls>,
    /// The data folder; `None` persists nothing.
    pub(crate) data: Option<DataFolder>,
    /// Problems that do not prevent a start.
    pub(crate) warnings: Vec<String>,
}

/// All problems that prevent a start.
#[derive(Debug)]
pub(crate) struct StartupError(Vec<Problem>);

/// One resource that cannot be opened.
#[derive(Debug)]
pub(crate) struct Problem {
    exit: Exit,
    /// The address, if it is in use.
    pub(crate) taken: Option<SocketAddr>,
    /// Whether another gateway holds the data folder.
    pub(crate) is_locked: bool,
    /// The key of the address that cannot be listened on, with the reason.
    pub(crate) refused_address: Option<(String, String)>,
    text: String,
}

/// Opens all resources of a start.
///
/// # Errors
/// All resources that cannot be opened.
pub(crate) fn open(config: &Config) -> Result<Opened, StartupError> {
    let mut problems = Vec::new();
    let tls = config.tls.as_ref().map(Tls::load).transpose();
    let tls = tls.unwrap_or_else(|error| {
        problems.push(Problem::of(Exit::Config, error.to_string()));
        None
    });
    let mut bind = |key: &str, address| {
        Listener::bind(address).map_err(|error| problems.push(Problem::bind(key, address, &error)))
    };
    let listener = bind("server.listen", config.listen);
    let own = config.own_listen.iter();
    let own: Vec<_> =
        own.map(|(vendor, address)| Ok((*vendor, bind(&format!("{vendor}.listen"), *address)?))).collect();
    let admin = bind("admin.listen", config.admin);
    let metrics = config.launchdarkly.as_ref().and_then(|it| it.prometheus.as_ref());
    let metrics = metrics.map(|it| bind("launchdarkly.prometheus.listen", it.listen)).transpose();
    let mut warnings = Vec::new();
    let data = config.data_dir.as_deref().and_then(|folder| match DataFolder::open(folder) {
        Ok(folder) => Some(folder),
        Err(error) if !config.data_required => {
            warnings.push(format!("`data.dir`: {error}; nothing is kept on disk, because `data.required` is off"));
            None
        }
        Err(error) => {
            problems.push(Problem::data(&error));
            None
        }
    });
    let own: Result<Vec<_>, ()> = own.into_iter().collect();
    match (listener, own, admin, metrics) {
        (Ok(listener), Ok(own_listeners), Ok(admin), Ok(metrics)) if problems.is_empty() => {
            let listener = listener.with_tls(tls.clone());
            let own_listeners =
                own_listeners.into_iter().map(|(vendor, it)| (vendor, it.with_tls(tls.clone()))).collect();
            Ok(Opened { listener, own_listeners, admin, metrics, tls, data, warnings })
        }
        _ => Err(StartupError(problems)),
    }
}

/// Opens everything that a start would, including files of the vendors' sides, releases it, and returns problems and
/// warnings. A data folder that did not exist is removed again. Blocks.
pub(crate) fn probe(config: &Config) -> (Vec<Problem>, Vec<String>) {
    let folder = config.data_dir.as_deref();
    let probed = folder.map_or(Ok(()), DataFolder::probe);
    // The data folder was probed above, so the rest is opened without one.
    let (mut problems, mut warnings) = match open(&Config { data_dir: None, ..config.clone() }) {
        Ok(opened) => (Vec::new(), opened.warnings),
        Err(StartupError(problems)) => (problems, Vec::new()),
    };
    match probed {
        Err(error) if config.data_required => problems.push(Problem::data(&error)),
        Err(error) => {
            warnings
                .push(format!("`data.dir`: {error}; nothing would be kept on disk, because `data.required` is off"));
        }
        Ok(()) => (),
    }
    let tls = UpstreamTls::load().map(drop).map_err(StartError::from);
    let unusable = tls.err().into_iter().chain(Vendors::check(config));
    problems.extend(unusable.map(|error| Problem::of(vendor_exit(&error), error.to_string())));
    (problems, warnings)
}

/// Returns the exit code for an error of a vendor's side.
pub(crate) fn vendor_exit(error: &StartError) -> Exit {
    match error {
        StartError::Config(_) => Exit::Config,
        StartError::Data { .. } => Exit::CannotCreate,
        StartError::Http(_) | StartError::Tls(_) | StartError::Threads(_) => Exit::System,
    }
}

impl StartupError {
    /// Returns the key of the first address that cannot be listened on, and the reason.
    pub(crate) fn refused_address(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|it| it.refused_address.as_ref()).map(|(key, reason)| (key.as_str(), reason.as_str()))
    }

    /// Returns the exit code: that of a wrong configuration if there is one, otherwise that of the first problem.
    pub(crate) fn exit(&self) -> Exit {
        worst(&self.0)
    }
}

/// Returns the exit code of several problems: that of a wrong configuration if there is one, otherwise the first.
pub(crate) fn worst(problems: &[Problem]) -> Exit {
    let is_config = problems.iter().any(|it| it.exit == Exit::Config);
    if is_config { Exit::Config } else { problems.first().map_or(Exit::Software, |it| it.exit) }
}

impl Problem {
    fn of(exit: Exit, text: String) -> Self {
        Self { exit, taken: None, is_locked: false, refused_address: None, text }
    }

    fn bind(key: &str, address: SocketAddr, error: &std::io::Error) -> Self {
        let is_taken = error.kind() == ErrorKind::AddrInUse;
        let reason = if is_taken { "it is in use by another program".to_owned() } else { error.to_string() };
        Self {
            exit: if is_taken { Exit::Unavailable } else { Exit::Config },
            taken: is_taken.then_some(address),
            is_locked: false,
            text: format!("cannot listen on {address}: {reason}. Change `{key}`"),
            refused_address: Some((key.to_owned(), format!("listen {address}: {reason}"))),
        }
    }

    fn data(error: &DataFolderError) -> Self {
        let advice = "Set `data.dir` to another folder, or to an empty text to persist nothing";
        let (exit, is_locked) = match error {
            DataFolderError::Unusable { .. } => (Exit::CannotCreate, false),
            DataFolderError::InUse { .. } => (Exit::Temporary, true),
        };
        Self { exit, taken: None, is_locked, refused_address: None, text: format!("`data.dir`: {error}. {advice}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [problem] => problem.fmt(f),
            problems => {
                write!(f, "{} problems prevent a start:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for StartupError {}
