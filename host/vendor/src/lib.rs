//! The kit that a vendor's side is built from. It knows HTTP, and no vendor.
//!
//! Reading order: [`upstream`] opens connections to the vendor's service; [`payload`] passes what arrives through plugins
//! and [`persisted`] retains it; [`admission`] and [`stream_response`] serve SDKs; [`events`] carries what SDKs send to the
//! vendor; [`side`] is what the gateway sees of it all.
#![forbid(unsafe_code)]

pub mod url;

pub mod routes;

pub mod upstream;

pub mod body;

pub mod slotted_body;

pub mod admission;

pub mod stream_response;

pub mod payload;

pub mod persisted;

pub mod events;

pub mod report;

pub mod environment;

pub mod side;
