//! The bytes of an evalx response.

use super::Evaluated;
use super::outcome::Reason;

/// The properties of an entry that are not written as they were evaluated. The texts must be valid JSON on one line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replaced<'a> {
    /// JSON text of the value.
    pub value: Option<&'a [u8]>,
    /// Index of the variation.
    pub variation: Option<u32>,
    /// JSON text of the reason, for entries that have one.
    pub reason: Option<&'a [u8]>,
}

impl Replaced<'_> {
    fn is_nothing(&self) -> bool {
        self.value.is_none() && self.variation.is_none() && self.reason.is_none()
    }
}

impl Evaluated<'_> {
    /// Writes the flag's property of an evalx body, `"key":{…}`, with what is replaced.
    pub fn write_entry(&self, replaced: Replaced<'_>, with_reasons: bool, out: &mut Vec<u8>) {
        let (prepared, variation) = (&self.flag.prepared, self.outcome.variation);
        let experiment = self.is_experiment();
        if replaced.is_nothing() && !with_reasons && !experiment && self.outcome.prerequisites == 0 {
            return prepared.write_plain(variation, out);
        }
        prepared.write_head(variation, replaced, out);
        self.write_rest(replaced, with_reasons, out);
        out.push(b'}');
    }

    /// Writes the result as an object of the second version of the delivery protocol: the properties of an evalx entry, of
    /// which the version is `flagVersion`, and the sampling ratio.
    pub fn write_object(&self, replaced: Replaced<'_>, with_reasons: bool, out: &mut Vec<u8>) {
        let (prepared, variation) = (&self.flag.prepared, self.outcome.variation);
        out.extend_from_slice(br#"{"value":"#);
        out.extend_from_slice(replaced.value.unwrap_or_else(|| prepared.value(variation)));
        out.extend_from_slice(br#","variation":"#);
        match replaced.variation.or(variation) {
            Some(index) => write_number(index, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(br#","flagVersion":"#);
        out.extend_from_slice(itoa::Buffer::new().format(self.version()).as_bytes());
        self.write_rest(replaced, with_reasons, out);
        if let Some(ratio) = prepared.sampling_ratio() {
            out.extend_from_slice(br#","samplingRatio":"#);
            out.extend_from_slice(itoa::Buffer::new().format(ratio).as_bytes());
        }
        out.push(b'}');
    }

    /// Writes the properties that follow the version.
    fn write_rest(&self, replaced: Replaced<'_>, with_reasons: bool, out: &mut Vec<u8>) {
        let (prepared, variation, experiment) = (&self.flag.prepared, self.outcome.variation, self.is_experiment());
        if experiment {
            out.extend_from_slice(br#","trackEvents":true,"trackReason":true"#);
        } else if prepared.tracks_events() {
            out.extend_from_slice(br#","trackEvents":true"#);
        }
        if with_reasons || experiment {
            out.extend_from_slice(br#","reason":"#);
            match replaced.reason {
                Some(reason) => out.extend_from_slice(reason),
                None => self.write_reason(out),
            }
        }
        out.extend_from_slice(prepared.debugging(variation));
        if self.outcome.prerequisites > 0 {
            out.extend_from_slice(br#","prerequisites":["#);
            out.extend_from_slice(prepared.prerequisites(self.outcome.prerequisites));
            out.push(b']');
        }
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

/// Writes a number in decimal digits.
pub(super) fn write_number(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
