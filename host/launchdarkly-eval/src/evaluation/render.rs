//! The bytes of an evalx response.

use super::Evaluated;
use super::outcome::Reason;

impl Evaluated<'_> {
    /// Writes the flag's property of an evalx body, `"key":{…}`, with another value if there is one.
    ///
    /// `replaced_value` must be valid JSON; everything else is written as it was evaluated.
    pub fn write_entry(&self, replaced_value: Option<&[u8]>, with_reasons: bool, out: &mut Vec<u8>) {
        let (prepared, variation) = (&self.flag.prepared, self.outcome.variation);
        let experiment = self.is_experiment();
        if replaced_value.is_none() && !with_reasons && !experiment && self.outcome.prerequisites == 0 {
            return prepared.write_plain(variation, out);
        }
        prepared.write_head(variation, replaced_value, out);
        if experiment {
            out.extend_from_slice(br#","trackEvents":true,"trackReason":true"#);
        } else if prepared.tracks_events() {
            out.extend_from_slice(br#","trackEvents":true"#);
        }
        if with_reasons || experiment {
            out.extend_from_slice(br#","reason":"#);
            self.write_reason(out);
        }
        out.extend_from_slice(prepared.debugging(variation));
        if self.outcome.prerequisites > 0 {
            out.extend_from_slice(br#","prerequisites":["#);
            out.extend_from_slice(prepared.prerequisites(self.outcome.prerequisites));
            out.push(b']');
        }
        out.push(b'}');
    }

    /// Writes the reason as a JSON object.
    pub fn write_reason(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"kind":""#);
        out.extend_from_slice(self.reason_kind().as_bytes());
        out.push(b'"');
        match self.outcome.reason {
            Reason::Off | Reason::Target => (),
            Reason::Rule { index, .. } => {
                out.extend_from_slice(br#","ruleIndex":"#);
                write_number(index, out);
                let id = self.flag.prepared.rule_id(index);
                if !id.is_empty() {
                    out.extend_from_slice(br#","ruleId":"#);
                    out.extend_from_slice(id);
                }
            }
            Reason::Fallthrough { .. } => (),
            Reason::PrerequisiteFailed { index } => {
                out.extend_from_slice(br#","prerequisiteKey":"#);
                out.extend_from_slice(self.flag.prepared.prerequisite(index));
            }
            Reason::Malformed(_) => out.extend_from_slice(br#","errorKind":"MALFORMED_FLAG""#),
        }
        if self.is_in_experiment() {
            out.extend_from_slice(br#","inExperiment":true"#);
        }
        if let Some(status) = self.outcome.status {
            out.extend_from_slice(br#","bigSegmentsStatus":""#);
            out.extend_from_slice(status.name().as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
}

fn write_number(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
