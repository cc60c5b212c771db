//! Limits that a plugin wants in its manifest. Within the host's defaults they are used; beyond them they are the operator's
//! to give.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Bind, Hook, LARGEST_MEMORY_MB, LONGEST_DEADLINE_MS, LoadError, clean};

/// Limits by the name of a hook; names of later versions are ignored.
pub type LimitsByHook = BTreeMap<String, WantedLimits>;

/// The limits that a plugin wants for the calls of one hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct WantedLimits {
    /// Deadline of a call in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Linear memory of an instance, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// What they are for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Which limits a binding file sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SetLimits {
    pub(crate) deadline: bool,
    pub(crate) memory: bool,
}

impl WantedLimits {
    /// Checks that a binding could give the limits.
    pub(crate) fn check(&self, hook: &str) -> Result<(), String> {
        let fault = |key: &str, most: &dyn std::fmt::Display| {
            Err(format!("`limits.{}.{key}` must be a number from 1 to {most}", clean(hook)))
        };
        if self
            .deadline_ms
            .is_some_and(|ms| i64::try_from(ms).map_or(true, |ms| !(1..=LONGEST_DEADLINE_MS).contains(&ms)))
        {
            return fault("deadline_ms", &LONGEST_DEADLINE_MS);
        }
        if self.memory_mb.is_some_and(|mb| !(1..=LARGEST_MEMORY_MB).contains(&mb)) {
            return fault("memory_mb", &LARGEST_MEMORY_MB);
        }
        Ok(())
    }

    /// Returns the limits for messages, and for lists of what a component wants.
    #[must_use]
    pub fn describe(&self) -> String {
        let deadline = self.deadline_ms.map(|ms| format!("{ms} ms"));
        let memory = self.memory_mb.map(|mb| format!("{mb} MiB"));
        deadline.into_iter().chain(memory).collect::<Vec<_>>().join(" and ")
    }

    /// Sets the limits that are wanted, however large they are.
    fn set(&self, bind: &mut Bind) {
        bind.deadline = self.deadline_ms.map_or(bind.deadline, Duration::from_millis);
        bind.memory_mb = self.memory_mb.unwrap_or(bind.memory_mb);
    }
}

/// Returns a binding with the defaults of a hook and the limits that are wanted, for cases without a binding file.
pub(crate) fn bind_as_wanted(hook: Hook, wanted: &LimitsByHook) -> Bind {
    let mut bind = Bind::automatic(hook);
    if let Some(wanted) = wanted.get(hook.name()) {
        wanted.set(&mut bind);
    }
    bind
}

/// Applies the limits that are wanted to bindings that set none themselves. `set` has what each binding sets, in the same
/// order; absent elements set nothing.
///
/// # Errors
/// Every limit that is wanted beyond the default, with the line that gives it.
pub(crate) fn apply(
    mut binds: Vec<Bind>,
    set: &[SetLimits],
    wanted: &LimitsByHook,
    file: &str,
) -> Result<Vec<Bind>, LoadError> {
    let mut denied = Vec::new();
    for (index, bind) in binds.iter_mut().enumerate() {
        let Some(wanted) = wanted.get(bind.hook.name()) else { continue };
        let set = set.get(index).copied().unwrap_or_default();
        let open = WantedLimits {
            deadline_ms: wanted.deadline_ms.filter(|_| !set.deadline),
            memory_mb: wanted.memory_mb.filter(|_| !set.memory),
            why: String::new(),
        };
        let is_longer = open.deadline_ms.is_some_and(|ms| Duration::from_millis(ms) > bind.deadline);
        if is_longer || open.memory_mb.is_some_and(|mb| mb > bind.memory_mb) {
            denied.push(denial(bind, set, wanted));
        }
        open.set(bind);
    }
    if denied.is_empty() {
        return Ok(binds);
    }
    Err(LoadError::LimitsDenied { wants: denied.join("; "), file: file.to_owned() })
}

fn denial(bind: &Bind, set: SetLimits, wanted: &WantedLimits) -> String {
    let why = if wanted.why.is_empty() { String::new() } else { format!(" ({})", clean(&wanted.why)) };
    let deadline = if set.deadline { Some(bind.deadline.as_millis()) } else { wanted.deadline_ms.map(u128::from) };
    let memory = if set.memory { Some(bind.memory_mb) } else { wanted.memory_mb };
    let line: Vec<_> = deadline
        .map(|ms| format!("deadline_ms = {ms}"))
        .into_iter()
        .chain(memory.map(|mb| format!("memory_mb = {mb}")))
        .collect();
    format!(
        "wants {}{why} for `{}`, which has {} ms and {} MiB unless the binding says so; write `limits = {{ {} }}` under \
         [[bind]] of `{}`",
        wanted.describe(),
        bind.hook,
        bind.deadline.as_millis(),
        bind.memory_mb,
        line.join(", "),
        bind.hook,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: SetLimits = SetLimits { deadline: false, memory: false };

    fn wanted(deadline_ms: Option<u64>, memory_mb: Option<u32>) -> LimitsByHook {
        let limits = WantedLimits { deadline_ms, memory_mb, why: "to verify".to_owned() };
        [("request-auth".to_owned(), limits)].into()
    }

    #[test]
    fn what_is_wanted_tightens_and_never_loosens() {
        let usual = Bind::automatic(Hook::RequestAuth);
        let apply = |bind: &Bind, set, wanted: &LimitsByHook| apply(vec![bind.clone()], &[set], wanted, "a.toml");
        let limits = |bind: &Bind| (bind.deadline.as_millis(), bind.memory_mb);
        for (deadline, memory, expected) in
            [(None, None, (5, 32)), (Some(2), Some(8), (2, 8)), (Some(5), Some(32), (5, 32)), (None, Some(1), (5, 1))]
        {
            let binds = apply(&usual, NONE, &wanted(deadline, memory)).unwrap();
            assert_eq!(limits(&binds[0]), expected, "{deadline:?} {memory:?}");
        }
        for (deadline, memory) in [(Some(6), None), (None, Some(33)), (Some(1), Some(256))] {
            let error = apply(&usual, NONE, &wanted(deadline, memory)).unwrap_err();
            assert_eq!((error.code(), error.class()), ("L06", "limits-denied"), "{deadline:?} {memory:?}");
        }
        let filter = Bind::automatic(Hook::EventFilter);
        assert_eq!(apply(&filter, NONE, &wanted(Some(60_000), Some(256))).unwrap(), [filter], "another hook");
        assert_eq!(limits(&bind_as_wanted(Hook::RequestAuth, &wanted(Some(50), Some(64)))), (50, 64));
    }

    #[test]
    fn what_a_binding_sets_counts() {
        let bind = Bind { deadline: Duration::from_millis(50), memory_mb: 16, ..Bind::automatic(Hook::RequestAuth) };
        let both = SetLimits { deadline: true, memory: true };
        for wanted in [wanted(Some(2), Some(1)), wanted(Some(500), Some(64))] {
            assert_eq!(apply(vec![bind.clone()], &[both], &wanted, "a.toml").unwrap()[0], bind);
        }
        let memory = SetLimits { deadline: false, memory: true };
        let error = apply(vec![bind], &[memory], &wanted(Some(60), Some(64)), "a.toml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "wants 60 ms and 64 MiB (to verify) for `request-auth`, which has 50 ms and 16 MiB unless the binding says so; \
             write `limits = { deadline_ms = 60, memory_mb = 16 }` under [[bind]] of `request-auth`, in `a.toml`"
        );
    }

    #[test]
    fn limits_that_no_binding_could_give_are_invalid() {
        for (limits, is_valid) in [
            ((Some(1), Some(1)), true),
            ((Some(60_000), Some(256)), true),
            ((Some(0), None), false),
            ((Some(60_001), None), false),
            ((Some(u64::MAX), None), false),
            ((None, Some(0)), false),
            ((None, Some(257)), false),
        ] {
            let limits = WantedLimits { deadline_ms: limits.0, memory_mb: limits.1, why: String::new() };
            assert_eq!(limits.check("request-auth").is_ok(), is_valid, "{limits:?}");
        }
    }
}
