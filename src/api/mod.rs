//! The protocols: thin handlers over codecs, in front of the models.

mod admin;
mod budget;
mod client;
mod deadline;
mod frames;
mod gather;
mod health;
mod in_flight;
mod inference;
mod methods;
mod observer;
mod otlp;
mod priority;
mod request_id;
mod rest;
mod router;
mod seldom;
mod status;
mod tfs;
mod tokens;
mod trace;
mod trail;

pub use admin::{Admin, Peer};
pub use budget::{Budget, Ledger};
pub use client::{Client, ClientReply};
pub use gather::Held;
pub use health::{Health, Phase};
pub use in_flight::InFlight;
pub use inference::read_examples;
pub use observer::{Call, Entrypoint, Logged, Observer, Silent};
pub use otlp::{Span, SpansClient, Value, encode_spans, refused_spans};
pub use rest::{Format, JsonLimits, Rest, RestOptions, read_json, write_json};
pub use router::{DESCRIPTORS, Options, SERVICES, Services, router};
pub use seldom::Seldom;
pub use tfs::{
    Form, Pem, PemText, Records, Replay, RequestLog, config, decode_inputs, encode, pem_of_ssl_config, wire,
};
pub use tokens::{Access, Tokens};
pub use trace::{TraceParent, random};
pub use trail::{Noted, Trail};
