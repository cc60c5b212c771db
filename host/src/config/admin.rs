//! Settings of the admin listener: for the gateway, and for commands that talk to a running one.

use std::net::SocketAddr;

use yardarm_core::readiness::ReadyPolicy;
use yardarm_core::secret::is_sendable;
use yardarm_core::settings::{Key, Kind, Reader, Setting, SettingError, Values};
use yardarm_core::{Secret, choices, settings};

use super::network::HostNames;

/// Key of the token.
const TOKEN: &str = "admin.token";
/// Minimum length of the token in bytes: it protects what runs in the gateway.
const MIN_TOKEN: usize = 16;

settings! {
    pub(super) struct AdminSettings in "admin" {
        /// Address for operators: probes, metrics, status, page. Keep it off public networks.
        pub(super) listen: SocketAddr = "127.0.0.1:8040",
        /// Token with which operators control plugins at run time, 16 visible ASCII characters or more; it is sent as
        /// `Authorization: Bearer …`. Unless set, plugins cannot be controlled. Everything else that the admin listener
        /// serves needs no token.
        pub(super) token: Option<Secret> as OperatorToken,
        /// Host names under which the admin listener may be reached, such as `yardarm.ops.svc` or `*.ops.svc`. IP
        /// addresses and `localhost` are always accepted; a request to any other name is answered 421.
        pub(super) allowed_hosts: Vec<String> as HostNames,
        /// What `/ready` waits for: `all` environments that are known at the start, except those whose keys upstream
        /// rejects while others are served; `any` environment; or only that the process has `started`. Once ready, a
        /// gateway stays ready until it shuts down.
        pub(super) ready: ReadyPolicy as ReadyWhen = "all",
    }
}

/// Format of `admin.ready`.
enum ReadyWhen {}

choices! {
    ReadyWhen as ReadyPolicy { "all" => ReadyPolicy::All, "any" => ReadyPolicy::Any, "started" => ReadyPolicy::Started }
}

/// Format of `admin.token`.
enum OperatorToken {}

impl Setting<Option<Secret>> for OperatorToken {
    const KIND: Kind = Kind::Secret;

    fn read(reader: &mut Reader<'_>, path: &str) -> Option<Secret> {
        let token = reader.secret(path)?;
        match check_token(&token) {
            Some(problem) => {
                reader.reject(path, problem);
                None
            }
            None => Some(token),
        }
    }
}

/// Returns what is wrong with a token for operators, without the token.
fn check_token(token: &Secret) -> Option<&'static str> {
    match token.expose() {
        text if !is_sendable(text) => Some("contains characters that cannot be sent in a header"),
        text if text.len() < MIN_TOKEN => Some("has less than 16 characters, so it can be guessed"),
        _ => None,
    }
}

/// How a command reaches the admin listener of a running gateway.
#[derive(Debug)]
pub(crate) struct AdminAccess {
    pub(crate) listen: SocketAddr,
    /// `None` if no token is configured; an error if it cannot be read, which matters to commands that need it.
    pub(crate) token: Result<Option<Secret>, String>,
}

impl AdminAccess {
    /// Reads the settings of the listener.
    ///
    /// # Errors
    /// If the address is invalid.
    pub(super) fn read(
        values: &Values,
        keys: &[Key],
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<SettingError>> {
        let mut reader = Reader::new(values, keys, lookup);
        let AdminSettings { listen, token, .. } = AdminSettings::read_keys(&mut reader);
        let (of_token, others): (Vec<_>, Vec<_>) = reader.into_errors().into_iter().partition(|it| it.key == TOKEN);
        let token = of_token.first().map_or(Ok(token), |error| Err(error.to_string()));
        if others.is_empty() { Ok(Self { listen, token }) } else { Err(others) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_can_be_sent_and_not_be_guessed() {
        let problem = |text: &str| check_token(&Secret::new(text)).unwrap_or_default();
        assert_eq!(problem("0123456789abcdef"), "");
        assert!(problem("0123456789abcde").contains("16 characters"));
        assert!(problem("0123456789 abcdef").contains("header"));
        assert!(problem("0123456789abcdef\r\nx: y").contains("header"));
    }
}
