//! The cases, a file for each file of operators.

mod arithmetic;
mod batch_normalization;
mod bits;
mod cast;
mod choice;
mod compare;
mod join;
mod movement;
mod products;
mod quantize;
mod signals;
mod unary;
mod views;
mod vision;
mod weights;

mod listing;

pub(crate) use listing::all;
