//! A real server process, called by a real client over real sockets. Without an adapter every test says that it skipped.

mod cache;
mod calls;
mod concurrency;
mod connections;
mod dtypes;
mod errors;
mod examples;
mod faults;
mod folders;
mod gzip;
mod health;
mod http;
mod identity;
mod lifecycle;
mod memory;
mod models;
mod padding;
mod parameters;
mod recorded;
mod reload;
mod rest;
mod rows;
mod scheduling;
mod server;
#[cfg(unix)]
mod stopping;
#[cfg(unix)]
mod tensorflow;
mod tls;
mod tokens;
mod traces;
