//! Command-line options.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

/// Measures what the gateway costs and compares it with the project's goals.
#[derive(Debug, Parser)]
#[command(name = "gateway")]
pub(crate) struct Options {
    /// Goals to measure, such as `p1,p2`; all if absent
    #[arg(long, value_name = "GOALS", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Fewer streams, rounds and swaps: checks that everything works, not how fast it is
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Figures of an earlier run (`--json`) to show beside the new ones
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Plugin swaps of P7 [default: 200, with --quick 30]
    #[arg(long, value_name = "COUNT")]
    pub(crate) swaps: Option<usize>,
    /// Streams of P1, P2 and P10 [default: 10000, with --quick 2000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) streams: Option<usize>,
    /// Gateway to measure, for comparing two builds [default: the one built with this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
    /// Folder with the built sample plugins [default: that of `make plugins`]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) plugins: Option<PathBuf>,
    /// Keep folders and logs of the measured gateways
    #[arg(long)]
    pub(crate) keep: bool,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as the server that P2, P4, P14 and P16 are compared with
    #[arg(long, hide = true)]
    pub(crate) floor_server: bool,
    /// The same with TLS
    #[arg(long, hide = true)]
    pub(crate) floor_tls: bool,
    /// Streams of P14 and P15 [default: 5000, with --quick 1000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) secure_streams: Option<usize>,
}

impl Options {
    /// Returns the path of the gateway to measure.
    pub(crate) fn binary(&self) -> PathBuf {
        self.binary.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_yardarm")))
    }

    /// Returns the component of an example plugin, and its binding file.
    pub(crate) fn example(&self, language: &str) -> anyhow::Result<(Vec<u8>, String)> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/plugins")).join(language);
        let read = |extension: &str| {
            let file = folder.join(format!("{language}-event-filter.{extension}"));
            std::fs::read(&file).with_context(|| format!("{}: run `make example-plugins`", file.display()))
        };
        Ok((read("wasm")?, String::from_utf8(read("toml")?)?))
    }

    /// Returns the component of a sample plugin.
    pub(crate) fn sample(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/target/wasm32-wasip2/release");
        let folder = self.plugins.clone().unwrap_or_else(|| PathBuf::from(built));
        let path = folder.join(format!("{}.wasm", name.replace('-', "_")));
        std::fs::read(&path).map_err(|error| {
            anyhow::anyhow!("`{}`: {error}; build the sample plugins with `make plugins`", path.display())
        })
    }

    /// Chooses between the full and the quick size of something.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}
