//! All cases together.

use super::{arithmetic, batch_normalization, cast, choice, compare, join, movement, products, unary, views};
use crate::case::Case;

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let files = [
        arithmetic::cases,
        batch_normalization::cases,
        cast::cases,
        choice::cases,
        compare::cases,
        join::cases,
        movement::cases,
        products::cases,
        unary::cases,
        views::cases,
    ];
    files.into_iter().flat_map(|cases| cases()).collect()
}
