//! Several engines together: opens them, and spreads each model's runs over them.

mod costs;
mod first_done;
#[allow(clippy::module_inception)]
mod fleet;
mod spread;

pub use fleet::{Fleet, Place};
pub use spread::Spread;
