//! The subcommands.

mod cases;
mod compare;
mod device_args;
mod images;
mod npy;
mod output;
mod tensors;
mod verify_case;

pub mod verify;
