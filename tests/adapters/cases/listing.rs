//! All cases together.

use super::{
    arithmetic, batch_normalization, bits, cast, choice, compare, join, movement, products, quantize, signals, unary,
    views, vision, weights,
};
use crate::case::Case;

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let files = [
        arithmetic::cases,
        batch_normalization::cases,
        bits::cases,
        cast::cases,
        choice::cases,
        compare::cases,
        join::cases,
        movement::cases,
        products::cases,
        signals::cases,
        quantize::cases,
        unary::cases,
        views::cases,
        vision::cases,
        weights::cases,
    ];
    files.into_iter().flat_map(|cases| cases()).collect()
}
