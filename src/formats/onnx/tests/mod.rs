//! Whole models through the importer.

mod hostile;
mod models;
mod samples;
