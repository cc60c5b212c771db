//! What guests do when they are called: a file of WebAssembly text for each.

macro_rules! fragments {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = include_str!(concat!("../../guests/", $file));)*
        /// Every fragment, by file name.
        pub const ALL_FRAGMENTS: &[(&str, &str)] = &[$(($file, $name)),*];
    };
}

fragments! {
    /// `request-auth`: allows every request as `caller`.
    ALLOW = "allow.wat";
    /// `request-auth`: denies as forbidden.
    FORBID = "forbid.wat";
    /// `request-auth`: abstains.
    ABSTAIN = "abstain.wat";
    /// `request-auth`: the principal is the received credential.
    ECHO_CREDENTIAL = "echo-credential.wat";
    /// `request-auth`: the principal is the address of the client; abstains without one.
    ECHO_CLIENT = "echo-client.wat";
    /// `request-auth`: the principal is the path; abstains without one.
    ECHO_PATH = "echo-path.wat";
    /// `request-auth`: the principal is the query; abstains without one.
    ECHO_QUERY = "echo-query.wat";
    /// `request-auth`: the principal is the number of the request; abstains without one.
    ECHO_ID = "echo-id.wat";
    /// `request-auth`: the principal is the one that an earlier plugin gave; abstains without one.
    ECHO_IDENTITY = "echo-identity.wat";
    /// `request-auth`: allows and adds the response header `x-tenant: acme`.
    ADD_HEADER = "add-header.wat";
    /// `request-auth`: allows and adds a cookie, which is not allowed.
    FORGE_HEADER = "forge-header.wat";
    /// `request-auth`: denies as forbidden, with a reason.
    DENY_WITH_REASON = "deny-with-reason.wat";
    /// `request-auth`: denies as rate-limited, with the number of headers as seconds.
    COUNT_HEADERS = "count-headers.wat";
    /// `request-auth`: the principal is the value of the first header.
    ECHO_HEADER = "echo-header.wat";
    /// `request-auth`: denies as rate-limited, with the number of calls of this instance as seconds.
    COUNT_CALLS = "count-calls.wat";
    /// `request-auth`: the principal is the configuration, a JSON text.
    ECHO_CONFIG = "echo-config.wat";
    /// Any hook: never returns.
    SPIN = "spin.wat";
    /// `request-auth`: allows after it has read the wall clock and a random number through WASI.
    READ_WASI = "read-wasi.wat";
    /// `request-auth`: the same through WASI 0.3; the principal is the number of days since 1970, in five digits.
    READ_WASI_0_3 = "read-wasi-0-3.wat";
    /// `request-auth`: allows after it has printed two lines through WASI 0.3, of which the second has no end, and has
    /// looked for environment variables, arguments and folders. Traps if it finds any.
    PRINT_WASI_0_3 = "print-wasi-0-3.wat";
    /// `request-auth`: waits for a millisecond through WASI 0.3.
    WAIT_WASI_0_3 = "wait-wasi-0-3.wat";
    /// `request-auth`: resolves a host name through WASI 0.3.
    RESOLVE_WASI_0_3 = "resolve-wasi-0-3.wat";
    /// `request-auth`: logs, counts and replies with all that it can read of the request and of the process.
    LEAK_REQUEST = "leak-request.wat";
    /// `event-filter`: logs and counts what it can read. Together with the one before, like the following ones.
    LEAK_EVENTS = "leak-events.wat";
    /// `payload-transform`: logs and counts what it can read.
    LEAK_ITEMS = "leak-items.wat";
    /// `context-enrichment`: logs and counts what it can read.
    LEAK_CONTEXT = "leak-context.wat";
    /// `evaluation-transform`: logs and counts what it can read. Together with the one before as well.
    LEAK_RESULTS = "leak-results.wat";
    /// `background`: logs and counts what a process has.
    LEAK_WORK = "leak-work.wat";
    /// `change-listener`: logs and counts what it is passed.
    LEAK_CHANGES = "leak-changes.wat";
    /// `route-resolver`: logs and counts what it can read of the request.
    LEAK_UNRESOLVED = "leak-unresolved.wat";
    /// `request-auth`: allows after it has counted in 26 series, `aA` to `aZ`.
    COUNT_SERIES = "count-series.wat";
    /// Any hook: never returns and calls the host all the time.
    SPIN_IN_HOST = "spin-in-host.wat";
    /// Any hook: grows its memory without end.
    GROW = "grow.wat";
    /// Any hook: recurses without end.
    RECURSE = "recurse.wat";
    /// Any hook: traps.
    TRAP = "trap.wat";
    /// `request-auth`: allows, and traps at one call of each instance, whose number is in place of 9999.
    TRAP_SOMETIMES = "trap-sometimes.wat";
    /// `request-auth`: allows after as many rounds of a loop as are in place of 9999.
    BURN = "burn.wat";
    /// Any hook: divides by zero.
    DIVIDE = "divide.wat";
    /// Any hook: returns `temporary`.
    TEMPORARY = "temporary.wat";
    /// Any hook: returns `invalid-input`.
    INVALID_INPUT = "invalid-input.wat";
    /// `request-auth`: a principal that is not UTF-8.
    NOT_UTF8 = "not-utf8.wat";
    /// `request-auth`: a principal beyond the end of memory.
    OUT_OF_MEMORY = "out-of-memory.wat";
    /// `request-auth`: a principal of 32 KiB.
    LONG_PRINCIPAL = "long-principal.wat";
    /// `request-auth`: writes a thousand log lines, then allows.
    FLOOD = "flood.wat";
    /// `request-auth`: reads the clock, then allows.
    CLOCK = "clock.wat";
    /// `request-auth`: denies as rate-limited, with the wall-clock time as seconds.
    ECHO_TIME = "echo-time.wat";
    /// `request-auth`: denies as rate-limited, with a stored number of calls as seconds; as unavailable without stored values.
    COUNT_HITS = "count-hits.wat";
    /// `payload-transform`: hides the first item unless it can store values.
    KEEP_HITS = "keep-hits.wat";
    /// `request-auth`: the principal is what is published under `token`; abstains without it.
    ECHO_SHARED = "echo-shared.wat";
    /// `payload-transform`: hides the first item once a number greater than 1 is published under `token`.
    HIDE_PUBLISHED = "hide-published.wat";
    /// `background`: publishes the stored number of calls under `token`.
    PUBLISH_COUNT = "publish-count.wat";
    /// `background`: publishes the response of the configured URL under `token`.
    PUBLISH_FETCHED = "publish-fetched.wat";
    /// `change-listener`: posts the key of the first item, or `everything`, to the configured URL.
    POST_FIRST = "post-first.wat";
    /// `route-resolver`: the query is the name of the environment.
    RESOLVE_QUERY = "resolve-query.wat";
    /// Any hook: logs the configuration, and fails with it as the text.
    LOG_CONFIG = "log-config.wat";
    /// `event-filter`: keeps everything.
    KEEP = "keep.wat";
    /// `event-filter`: drops the first event of each batch.
    DROP_FIRST = "drop-first.wat";
    /// `event-filter`: drops events whose body it can read.
    DROP_SEEN = "drop-seen.wat";
    /// `event-filter`: replaces the first event.
    REPLACE_FIRST = "replace-first.wat";
    /// `event-filter`: replaces the first event with invalid JSON.
    REPLACE_BADLY = "replace-badly.wat";
    /// `event-filter`: replaces the first event by two, and adds one.
    SPLIT_FIRST = "split-first.wat";
    /// `event-filter`: drops the first event if it has no kind.
    DROP_REDACTED = "drop-redacted.wat";
    /// `event-filter`: drops the first event of an identified caller.
    DROP_IDENTIFIED = "drop-identified.wat";
    /// `event-filter`: drops an event that does not exist.
    DROP_NOWHERE = "drop-nowhere.wat";
    /// `event-filter`: drops the first event twice.
    DROP_TWICE = "drop-twice.wat";
    /// `payload-transform`: hides the first item.
    HIDE_FIRST = "hide-first.wat";
    /// `payload-transform`: hides the first item unless there is a flag `show`.
    HIDE_UNLESS = "hide-unless.wat";
    /// `payload-transform`: replaces the first item with itself, or does nothing if it cannot read it.
    REWRITE_FIRST = "rewrite-first.wat";
    /// `payload-transform`: replaces the first item with one of an older version.
    VERSION_BACK = "version-back.wat";
    /// `payload-transform`: hides an item that does not exist.
    HIDE_NOWHERE = "hide-nowhere.wat";
    /// `payload-transform`: adds a flag `extra`.
    ADD_FLAG = "add-flag.wat";
    /// `payload-transform`: hides the first item and adds a flag `renamed` that is derived from it.
    RENAME_FIRST = "rename-first.wat";
    /// `context-enrichment`: sets the attribute `plan` of `user` to `gold`.
    SET_PLAN = "set-plan.wat";
    /// `context-enrichment`: copies the attribute `plan` of `user` to `tier`, if it can read it.
    COPY_PLAN = "copy-plan.wat";
    /// `context-enrichment`: sets the key of `user`, which is not allowed.
    SET_KEY = "set-key.wat";
    /// `evaluation-transform`: the first result becomes `true`.
    FIRST_TRUE = "first-true.wat";
    /// `evaluation-transform`: leaves out the first result.
    OMIT_FIRST = "omit-first.wat";
    /// `evaluation-transform`: adds a flag `extra`.
    ADD_RESULT = "add-result.wat";
    /// `evaluation-transform`: the first result becomes invalid JSON.
    FIRST_NONSENSE = "first-nonsense.wat";
}

#[cfg(test)]
mod tests {
    use super::super::{Guest, GuestHook};
    use super::*;

    /// Returns the hook of a fragment. Those for any hook are tested with `request-auth`.
    fn hook_of(file: &str) -> GuestHook {
        match file {
            "keep.wat"
            | "drop-first.wat"
            | "drop-seen.wat"
            | "replace-first.wat"
            | "replace-badly.wat"
            | "split-first.wat"
            | "drop-redacted.wat"
            | "drop-identified.wat"
            | "drop-nowhere.wat"
            | "drop-twice.wat" => GuestHook::EventFilter,
            "hide-first.wat" | "hide-unless.wat" | "rewrite-first.wat" | "version-back.wat" | "hide-nowhere.wat"
            | "add-flag.wat" | "rename-first.wat" | "keep-hits.wat" | "hide-published.wat" => {
                GuestHook::PayloadTransform
            }
            "set-plan.wat" | "copy-plan.wat" | "set-key.wat" => GuestHook::ContextEnrichment,
            "first-true.wat" | "omit-first.wat" | "first-nonsense.wat" | "add-result.wat" => {
                GuestHook::EvaluationTransform
            }
            "publish-count.wat" | "publish-fetched.wat" | "leak-work.wat" => GuestHook::Background,
            "post-first.wat" | "leak-changes.wat" => GuestHook::ChangeListener,
            "resolve-query.wat" | "leak-unresolved.wat" => GuestHook::RouteResolver,
            "leak-events.wat" => GuestHook::EventFilter,
            "leak-items.wat" => GuestHook::PayloadTransform,
            "leak-context.wat" => GuestHook::ContextEnrichment,
            "leak-results.wat" => GuestHook::EvaluationTransform,
            _ => GuestHook::RequestAuth,
        }
    }

    #[test]
    fn every_fragment_becomes_a_component() {
        for (file, fragment) in ALL_FRAGMENTS {
            let others: &[(&str, &str)] = match *file {
                "leak-results.wat" => &[("leak-request.wat", LEAK_REQUEST), ("leak-context.wat", LEAK_CONTEXT)],
                "leak-events.wat"
                | "leak-items.wat"
                | "leak-context.wat"
                | "leak-work.wat"
                | "leak-changes.wat"
                | "leak-unresolved.wat" => &[("leak-request.wat", LEAK_REQUEST)],
                _ => &[],
            };
            let guest =
                others.iter().fold(Guest::new("zoo"), |guest, (file, fragment)| guest.hook(hook_of(file), fragment));
            let guest = guest.hook(hook_of(file), fragment);
            guest.component().unwrap_or_else(|error| panic!("{file}: {error:?}"));
        }
    }
}
