//! Input shapes from declarations and from the command line.

use std::collections::HashMap;

use anyhow::{Context as _, bail};

use crate::tensor::{Dim, Shape, Spec};

/// `NAME=VALUE` options by name; a name may hold `=`.
///
/// # Errors
/// For an option without `=`.
pub(super) fn pairs(options: &[String]) -> anyhow::Result<HashMap<&str, &str>> {
    let split = |o: &String| -> Option<(usize, usize)> { o.rfind('=').map(|at| (at, o.len())) };
    let mut found = HashMap::new();
    for option in options {
        let (at, end) = split(option).with_context(|| format!("{option:?} is not NAME=VALUE"))?;
        found.insert(&option[..at], &option[at + 1..end]);
    }
    Ok(found)
}

/// `1,128` as a shape; nothing is the shape of a scalar.
///
/// # Errors
/// For parts that are no extents.
pub(super) fn parse_shape(text: &str) -> anyhow::Result<Shape> {
    if text.is_empty() {
        return Ok(Shape::scalar());
    }
    let dims = text.split(',').map(|d| d.trim().parse().with_context(|| format!("{d:?} is not an extent")));
    Ok(Shape::new(dims.collect::<anyhow::Result<Vec<usize>>>()?))
}

/// The shape that `spec` declares, an open axis 0 taken as `batch`.
///
/// # Errors
/// For other open extents.
pub(super) fn declared_shape(spec: &Spec, batch: usize) -> anyhow::Result<Shape> {
    let Some(dims) = &spec.dims else { bail!("say the shape of {:?} with --shape {0}=…", spec.name) };
    let extent = |(axis, dim): (usize, &Dim)| match (axis, dim) {
        (_, Dim::Fixed(n)) => Ok(*n),
        (0, _) => Ok(batch),
        _ => bail!("{spec} leaves axis {axis} open: say its shape with --shape {}=…", spec.name),
    };
    Ok(Shape::new(dims.iter().enumerate().map(extent).collect::<anyhow::Result<Vec<_>>>()?))
}
