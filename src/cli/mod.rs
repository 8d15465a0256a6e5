//! The subcommands.

mod bench_inputs;
mod bench_local;
mod bench_profile;
mod bench_rate;
mod bench_server;
mod cases;
mod compare;
mod device_args;
mod expectations;
mod images;
mod inspect_text;
mod npy;
mod output;
mod own_cpu;
mod shapes;
mod tensors;
mod ties;
mod verify_case;

pub mod bench;
pub mod devices;
pub mod inspect;
pub mod predict;
pub mod serve;
pub mod verify;
