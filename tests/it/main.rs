//! A real server process, called by a real client over real sockets. Without an adapter every test says that it skipped.

mod bad_models;
mod cache;
mod calls;
mod concurrency;
mod connections;
#[cfg(target_os = "linux")]
mod crowds;
mod dtypes;
mod errors;
mod examples;
mod faults;
mod folders;
#[cfg(target_os = "linux")]
mod full_disk;
mod gzip;
mod h2;
mod health;
mod http;
mod identity;
mod killed;
mod lifecycle;
mod lost_files;
mod memory;
mod models;
mod odd_requests;
mod onnx;
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
mod together;
mod tokens;
mod traces;
mod unread;
