//! The tools of plugin authors: what the commands `yardarm plugin …` do with files, without a gateway.
//!
//! All functions block, and may be called from any thread, inside or outside of an asynchronous runtime.

mod bench;
mod component_file;
mod inspect;
mod pack;
mod replay;
mod runner;
mod sign;
mod sizes;
mod test;

pub use self::bench::{BenchReport, CaseCost, CostLimits, Times, bench_file};
pub use self::inspect::{InspectReport, InterfaceUse, WantedGrantReport, inspect_file};
pub use self::pack::pack;
pub use self::replay::{ReplayReport, ReplayedCall, replay_file};
pub use self::sign::{KeyError, SignatureReport, SigningKey, sign_file, verify_file};
pub use self::sizes::{ModuleSize, ProducedBy, Sizes};
pub use self::test::{TestError, TestReport, test_file};
