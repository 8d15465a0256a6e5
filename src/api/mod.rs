//! The protocols: thin handlers over codecs, in front of the models.

mod admin;
mod budget;
mod client;
mod deadline;
mod frames;
mod inference;
mod observer;
mod router;
mod status;
mod tfs;

pub use admin::{Admin, Peer, Secret};
pub use budget::{Budget, Ledger};
pub use client::{Client, ClientReply};
pub use observer::{Call, Observer, Silent};
pub use router::{DESCRIPTORS, Options, SERVICES, Services, router};
pub use tfs::{Form, config, decode_inputs, encode, wire};
