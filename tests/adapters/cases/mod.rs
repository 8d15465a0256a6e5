//! The cases, a file for each file of operators.

mod arithmetic;
mod attention;
mod batch_normalization;
mod bits;
mod cast;
mod choice;
mod compare;
mod indices;
mod join;
mod movement;
mod normalization;
mod products;
mod quantize;
mod recurrent;
mod reductions;
mod signals;
mod spans;
mod tight;
mod tiles;
mod unary;
mod views;
mod vision;
mod weights;
mod wide;

mod listing;

pub(crate) use listing::all;
