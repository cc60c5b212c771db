//! What the commands have in common that run a gateway: signals, the end of the process, and the report of a failure.

mod failure;
mod shutdown;
mod signals;

pub(crate) use self::failure::failed;
pub(crate) use self::shutdown::stop;
pub(crate) use self::signals::{Request, Signals};
