//! Images whose rows are whole vectors of four, with zeros around planes where windows reach outside, or as part of larger ones.

use crate::tensor::Shape;

/// Rows and elements that windows may reach outside a plane: those before a row lie in one vector of four.
pub const BORDER_MAX: usize = 3;

/// How a value of images lies in a buffer: element [n, c, y, x] is number `first + n × image + c × plane + y × row + x`. All of
/// these are multiples of four. What lies between planes is of no value, except where there is a border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Planes {
    /// Element [0, 0, 0, 0].
    pub first: usize,
    /// Elements between images.
    pub image: usize,
    /// Elements between planes.
    pub plane: usize,
    /// Elements between rows.
    pub row: usize,
    /// Rows of zeros above and below each plane, and zeros before and behind each row: up to [`BORDER_MAX`].
    pub border: usize,
    /// Elements of the buffer.
    pub elements: usize,
}

/// What a reader of images wants, and does for itself where it does not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanesWish {
    /// See [`Planes::border`].
    pub border: usize,
    /// Whether dense images serve it as well.
    pub dense_serves: bool,
}

impl Planes {
    /// Images of extents [n, c, y, x] alone in a buffer; `None` for other ranks, and for borders that are too wide.
    pub fn new(shape: &[usize], border: usize) -> Option<Self> {
        let [images, channels, y, x] = *shape else { return None };
        if border > BORDER_MAX || shape.contains(&0) {
            return None;
        }
        // The zeros behind a row are those before the next one; before the first row of all there is a vector.
        let row = (x + border).next_multiple_of(4);
        let before = if border > 0 { 4 } else { 0 };
        let plane = row.checked_mul(y + 2 * border)?;
        let image = plane.checked_mul(channels)?;
        let elements = image.checked_mul(images)?.checked_add(before)?;
        u32::try_from(elements).ok()?;
        Some(Self { first: before + border * row, image, plane, row, border, elements })
    }

    /// The planes from channel `channel` on.
    pub fn from_channel(self, channel: usize) -> Self {
        Self { first: self.first + channel * self.plane, ..self }
    }

    /// Whether images of these extents lie so as they do without.
    pub fn is_dense(&self, shape: &Shape) -> bool {
        self.first == 0 && shape.strides() == [self.image, self.plane, self.row, 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_lie_inside_the_buffer() {
        for border in 0..=BORDER_MAX {
            for x in 1..10 {
                let planes = Planes::new(&[2, 3, 5, x], border).expect("images");
                let at = |n: usize, c: usize, y: isize, x: isize| {
                    (planes.first + n * planes.image + c * planes.plane) as isize + y * planes.row as isize + x
                };
                let b = border as isize;
                assert!(at(0, 0, -b, -b) >= 0);
                assert!(at(1, 2, 4 + b, x as isize - 1 + b) < planes.elements as isize);
                // What is before a row is behind the one above it.
                assert!(at(0, 0, 1, -b) > at(0, 0, 0, x as isize - 1));
            }
        }
        assert!(Planes::new(&[1, 2, 3], 0).is_none());
        assert!(Planes::new(&[1, 2, 3, 8], 0).is_some_and(|p| p.is_dense(&Shape::new([1, 2, 3, 8]))));
        assert!(Planes::new(&[1, 2, 3, 7], 0).is_some_and(|p| !p.is_dense(&Shape::new([1, 2, 3, 7]))));
    }
}
