//! A real server process, called by a real client over real sockets. Without an adapter every test says that it skipped.

mod cache;
mod calls;
mod concurrency;
mod errors;
mod examples;
mod gzip;
mod http;
mod lifecycle;
mod models;
mod reload;
mod rest;
mod scheduling;
mod server;
#[cfg(unix)]
mod tensorflow;
