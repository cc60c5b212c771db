//! `yardarm plugin schema`: the JSON Schema of binding files.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use super::outcome::{Format, Report, finish};

#[derive(Serialize)]
struct BindingSchema {
    schema: Value,
}

pub(super) async fn run(format: Format) -> ExitCode {
    finish(format, || Ok(BindingSchema { schema: yardarm_wasm::binding_schema() })).await
}

impl Report for BindingSchema {
    fn text(&self) -> String {
        format!("{:#}\n", self.schema)
    }
}
