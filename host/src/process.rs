//! Shared by the commands that run a gateway: signals, shutdown, and reporting a failure.

mod failure;
mod shutdown;
mod signals;

pub(crate) use self::failure::failed;
pub(crate) use self::shutdown::stop;
pub(crate) use self::signals::{Request, Signals};
