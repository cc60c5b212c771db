//! The kit that a vendor's side is built from. It knows HTTP, and no vendor.
#![forbid(unsafe_code)]

pub mod url;

pub mod routes;

pub mod upstream;

pub mod body;

pub mod admission;

pub mod stream_response;

pub mod payload;

pub mod environment;

pub mod side;
