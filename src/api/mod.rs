//! The protocols: thin handlers over codecs, in front of the models.

mod admin;
mod budget;
mod client;
mod deadline;
mod frames;
mod gather;
mod in_flight;
mod inference;
mod observer;
mod priority;
mod request_id;
mod rest;
mod router;
mod status;
mod tfs;

pub use admin::{Admin, Peer, Secret};
pub use budget::{Budget, Ledger};
pub use client::{Client, ClientReply};
pub use in_flight::InFlight;
pub use observer::{Call, Entrypoint, Observer, Silent};
pub use rest::{Format, JsonLimits, Rest, RestOptions, read_json, write_json};
pub use router::{DESCRIPTORS, Options, SERVICES, Services, router};
pub use tfs::{Form, config, decode_inputs, encode, wire};
