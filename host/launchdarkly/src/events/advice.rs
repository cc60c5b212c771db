//! Advice about dropped events.

/// Returns advice for operators about events that were dropped for `reason`.
pub(super) fn advice(reason: &'static str) -> Option<&'static str> {
    Some(match reason {
        "queue-full" => "upstream does not answer in time; `launchdarkly.events_capacity` limits how much waits for it",
        "spool-unreadable" => {
            "`launchdarkly.events_spool_key` is another one than when they were accepted; with that one, a start sends them"
        }
        "memory-full" | "summary-full" => "raise `launchdarkly.events_memory`",
        "too-many-queues" => "SDKs send too many different values of `X-LaunchDarkly-Tags`",
        "too-large" => "upstream takes no posts of this size; lower `launchdarkly.events_capacity`",
        "upstream-unreachable" | "upstream-error" => "check `launchdarkly.events_uri` and the network",
        "refused" => {
            "upstream takes no posts like this one, perhaps because of its tags; other posts are not concerned"
        }
        "rejected" | "publisher-off" => "check the credentials of this environment",
        "malformed" | "event-too-large" | "too-deep" | "too-many-events" => "an SDK posts what cannot be forwarded",
        "hold-full" | "filter-unavailable" | "filter-failed" | "filter-invalid" => {
            "see the event filter in `/api/plugins`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_the_queues_have_advice() {
        for reason in ["queue-full", "memory-full", "too-many-queues", "upstream-unreachable", "malformed", "hold-full"]
        {
            assert!(advice(reason).is_some(), "{reason}");
        }
        assert_eq!(advice("internal-error"), None);
    }
}
