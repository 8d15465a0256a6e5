//! All cases together.

use super::{
    arithmetic, attention, batch_normalization, bits, cast, choice, compare, indices, join, movement, normalization,
    products, quantize, recurrent, reductions, signals, spans, tight, tiles, unary, views, vision, weights, wide,
};
use crate::case::Case;

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let files = [
        arithmetic::cases,
        attention::cases,
        batch_normalization::cases,
        bits::cases,
        cast::cases,
        choice::cases,
        compare::cases,
        indices::cases,
        join::cases,
        movement::cases,
        normalization::cases,
        products::cases,
        quantize::cases,
        recurrent::cases,
        reductions::cases,
        signals::cases,
        spans::cases,
        tight::cases,
        tiles::cases,
        unary::cases,
        views::cases,
        vision::cases,
        wide::cases,
        weights::cases,
    ];
    files.into_iter().flat_map(|cases| cases()).collect()
}
