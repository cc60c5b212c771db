//! The kit that a vendor's side is built from. It knows HTTP, and no vendor.
#![forbid(unsafe_code)]

pub mod upstream;
