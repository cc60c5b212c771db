//! The row of the status that a plugin has.

use std::sync::Arc;

use super::super::records::QuarantinedVersion;
use super::super::rollout::Rollout;
use super::{Entry, Hold};
use crate::status::{Row, RowState};

impl Entry {
    /// Returns the row of the status. `keeps_files` is whether the files of versions are kept, without which an operator can
    /// return to a version only while it is warm.
    pub(in super::super) fn row(&self, stem: &Arc<str>, keeps_files: bool) -> Row {
        let warm = self.probation.as_ref().map(|probation| Arc::clone(&probation.previous));
        let kept = self.record.as_ref().filter(|_| keeps_files).and_then(|record| record.previous.as_ref());
        let returnable = warm.as_ref().map(|plugin| plugin.version.clone());
        let refusal = self.obstacle.as_ref().or(self.refusal.as_ref());
        let state = match (&self.active, refusal, &self.hold) {
            (Some(_), ..) => RowState::Active,
            (None, ..) if self.is_retired() => RowState::Retired,
            (None, ..) if self.staging.is_some() => RowState::Staging,
            (None, Some(_), _) => RowState::Refused,
            (None, None, Some(Hold::Unbound)) => RowState::Unbound,
            (None, None, Some(Hold::Settling { .. } | Hold::Set(_) | Hold::Pinned | Hold::Rollout)) => {
                RowState::Waiting
            }
            (None, None, None) => RowState::Missing,
        };
        Row {
            stem: Arc::clone(stem),
            name: self.name.clone(),
            state,
            since_ms: self.since_ms,
            staging: self.staging.clone(),
            active: self.active.clone(),
            probation: self.probation.as_ref().zip(self.active.as_ref()).map(|(it, active)| it.status(active)),
            returnable: returnable.or_else(|| kept.map(|version| version.version.clone())),
            previous: warm,
            rollout: self.rollout.as_ref().map(Rollout::view),
            is_pinned: self.is_pinned(),
            quarantined: self.record.iter().flat_map(|it| &it.quarantined).map(QuarantinedVersion::status).collect(),
            refusal: refusal.cloned(),
            fails_closed: self.fails_closed(),
            advice: self.advice(stem, state),
        }
    }

    /// Returns what an operator can do, where the state alone does not say it.
    fn advice(&self, stem: &str, state: RowState) -> Option<String> {
        let restore = format!("retire the plugin with an empty file `{stem}.retired`");
        Some(match (state, &self.hold) {
            (_, Some(Hold::Pinned)) => "an operator has pinned another version; newer files are ignored".to_owned(),
            (RowState::Active, _) if self.rollout.is_some() => {
                let promote = "`yardarm plugin promote` has it replace the running one, `rollback` ends the rollout";
                format!("a newer version is being rolled out: {promote}")
            }
            (_, Some(Hold::Rollout)) => {
                "the version that ran before is loaded first, because the newer one is rolled out beside it".to_owned()
            }
            (_, Some(Hold::Set(set))) => format!("waits for the other files of `{set}.set`"),
            (RowState::Waiting, _) => format!("waits for `{stem}.toml` before it is bound to all its hooks"),
            (RowState::Retired, _) if self.seen.is_retired => {
                format!("retired by `{stem}.retired`; remove that file to load the plugin again, or all of its files")
            }
            (RowState::Retired, _) => "retired by an operator until it is reinstated".to_owned(),
            (RowState::Unbound, _) => {
                format!("is called once `{stem}.toml` binds it, because `plugins.auto_bind` is off")
            }
            (RowState::Missing, _) if self.fails_closed() => {
                format!("its required hooks fail closed; restore `{stem}.wasm`, or {restore}")
            }
            (RowState::Missing, _) => format!("`{stem}.wasm` is not there, so nothing is called"),
            (RowState::Refused, _) if self.fails_closed() => {
                format!("its required hooks fail closed; correct the file, or {restore}")
            }
            _ => return None,
        })
    }
}
