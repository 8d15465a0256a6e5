//! Images whose rows are whole vectors of four, with zeros around planes where windows reach outside, and images that are some
//! channels of others.

/// Rows and elements that windows may reach outside a plane: those before a row lie in one vector of four.
pub const BORDER_MAX: usize = 3;

/// How a value of images lies in a buffer: element [n, c, y, x] is number `first + n × image + c × plane + y × row + x`. `first`
/// and `image` are multiples of four. What lies between rows is of no value, except where there is a border.
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
    /// Whether rows and planes must follow each other without gaps.
    pub flat: bool,
}

impl PlanesWish {
    /// Of one that reads element by element.
    pub const ANY: Self = Self { border: 0, dense_serves: true, flat: false };
    /// Of one that reads each image from its beginning to its end.
    pub const FLAT: Self = Self { flat: true, ..Self::ANY };

    /// What serves both.
    pub fn and(self, other: Self) -> Self {
        Self {
            border: self.border.max(other.border),
            dense_serves: self.dense_serves && other.dense_serves,
            flat: self.flat || other.flat,
        }
    }
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

    /// Images of extents [n, c, y, x] alone in a buffer, all elements side by side; `None` for other ranks.
    pub fn dense(shape: &[usize]) -> Option<Self> {
        let [images, channels, y, x] = *shape else { return None };
        let (row, plane) = (x, x * y);
        let image = plane * channels;
        Some(Self { first: 0, image, plane, row, border: 0, elements: image * images })
    }

    /// The images of extents `shape` that are the channels from `channel` on of these; `None` where they begin inside a vector.
    pub fn from_channel(self, channel: usize, shape: &[usize]) -> Option<Self> {
        let first = self.first + channel * self.plane;
        let images = shape.first().copied().unwrap_or(1);
        let aligned = first.is_multiple_of(4) && (images == 1 || self.image.is_multiple_of(4));
        aligned.then_some(Self { first, ..self })
    }

    /// Whether images of these extents lie so as they do in `other`.
    pub fn is_same(&self, other: &Self, shape: &[usize]) -> bool {
        let strides = |planes: &Self| [planes.image, planes.plane, planes.row, 1];
        let taken = |(i, extent): (usize, &usize)| *extent == 1 || strides(self)[i] == strides(other)[i];
        self.first == other.first && shape.iter().enumerate().all(taken)
    }

    /// Whether rows and planes of images of these extents follow each other without gaps.
    pub fn is_flat(&self, shape: &[usize]) -> bool {
        Self::dense(shape).is_some_and(|dense| Self { image: dense.image, first: 0, ..*self }.is_same(&dense, shape))
    }

    /// Whether images of these extents lie so as they do without.
    pub fn is_dense(&self, shape: &[usize]) -> bool {
        Self::dense(shape).is_some_and(|dense| self.is_same(&dense, shape))
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
        assert!(Planes::new(&[1, 2, 3, 8], 0).is_some_and(|p| p.is_dense(&[1, 2, 3, 8])));
        assert!(Planes::new(&[1, 2, 3, 7], 0).is_some_and(|p| !p.is_dense(&[1, 2, 3, 7])));
    }

    #[test]
    fn some_channels_are_images_too() {
        let whole = Planes::dense(&[2, 6, 2, 5]).expect("images");
        let part = |channel| whole.from_channel(channel, &[2, 2, 2, 5]);
        assert_eq!(part(1), None);
        let part = part(2).expect("at a multiple of four");
        assert!(part.is_flat(&[2, 2, 2, 5]) && !part.is_dense(&[2, 2, 2, 5]));
        // The first channels of a single image are all that lies before the others.
        let first = whole.from_channel(0, &[1, 2, 2, 5]).expect("at a multiple of four");
        assert!(first.is_dense(&[1, 2, 2, 5]) && !first.is_dense(&[2, 2, 2, 5]));
        assert!(Planes::new(&[1, 2, 2, 5], 0).is_some_and(|padded| !padded.is_flat(&[1, 2, 2, 5])));
    }
}
