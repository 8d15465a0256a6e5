//! A real server process, called by a real client over real sockets. Without an adapter every test says that it skipped.

mod cache;
mod calls;
mod concurrency;
mod errors;
mod examples;
mod gzip;
mod http;
mod lifecycle;
mod memory;
mod models;
mod recorded;
mod reload;
mod rest;
mod server;
#[cfg(unix)]
mod tensorflow;
