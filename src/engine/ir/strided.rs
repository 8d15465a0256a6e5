//! Where the elements of an array lie inside another one.

/// Element `l`, counted in row-major order whatever the shape, is element `offset + Σ i × stride` of the array that it lies in,
/// where the `i` are the digits of `l` over the axes. Axes of extent 1 are left out and axes that go on at the same pace are one,
/// so that equal maps are equal, and a change of shape changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// The place of the first element.
    pub offset: usize,
    /// Extents and strides, outermost first.
    pub axes: Vec<(usize, usize)>,
}

impl Strided {
    /// The map of these axes, outermost first.
    pub fn new(offset: usize, axes: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (extent, stride) in axes.into_iter().filter(|(extent, _)| *extent != 1) {
            match merged.last_mut() {
                Some(outer) if outer.1 == stride * extent => *outer = (outer.0 * extent, stride),
                _ => merged.push((extent, stride)),
            }
        }
        Self { offset, axes: merged }
    }

    /// All elements where they are.
    pub fn whole(elements: usize) -> Self {
        Self::new(0, [(elements, 1)])
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.axes.iter().map(|(extent, _)| extent).product()
    }

    /// Whether it keeps the order of elements and leaves none out before the last one.
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && matches!(self.axes[..], [] | [(_, 1)])
    }

    /// The place of element `l`.
    pub fn place(&self, l: usize) -> usize {
        let (_, place) =
            self.axes.iter().rev().fold((l, self.offset), |(rest, place), (extent, stride)| {
                (rest / extent, place + rest % extent * stride)
            });
        place
    }

    /// How many elements are counted while the digit of each axis stays.
    pub fn units(&self) -> Vec<usize> {
        let inside = |axis: usize| self.axes[axis + 1..].iter().map(|(extent, _)| extent).product();
        (0..self.axes.len()).map(inside).collect()
    }

    /// The axis of whose digit `stride` elements are a multiple, and the digit's stride of them.
    fn step(&self, units: &[usize], stride: usize) -> Option<(usize, usize)> {
        let found = (0..units.len()).find(|i| units[*i] <= stride && stride < units[*i] * self.axes[*i].0)?;
        stride.is_multiple_of(units[found]).then(|| (found, stride / units[found] * self.axes[found].1))
    }

    /// This map behind `inner`, whose elements are counted in this one: where they lie in the end. `None` where no strides say it.
    pub fn of(&self, inner: &Self) -> Option<Self> {
        // Where there is nothing, nothing has a place.
        if inner.offset >= self.elements() {
            return None;
        }
        let units = self.units();
        let mut digits: Vec<usize> =
            units.iter().zip(&self.axes).map(|(unit, (extent, _))| inner.offset / unit % extent).collect();
        let offset = self.place(inner.offset);
        let mut axes = Vec::with_capacity(inner.axes.len());
        for (extent, stride) in &inner.axes {
            let mut pieces = Vec::new();
            let (mut left, mut stride) = (*extent, *stride);
            // An axis that runs through several digits is cut where they carry, innermost piece first.
            while left > 1 && stride > 0 {
                let (digit, far) = self.step(&units, stride)?;
                let room = units[digit] * self.axes[digit].0 / stride;
                let carries = left > room;
                let steps = if carries { room } else { left };
                if carries && (!left.is_multiple_of(room) || room * stride != units[digit] * self.axes[digit].0) {
                    return None;
                }
                digits[digit] += (steps - 1) * (stride / units[digit]);
                pieces.push((steps, far));
                (left, stride) = (left / steps, stride * steps);
            }
            pieces.push((left, 0));
            axes.extend(pieces.into_iter().rev());
        }
        // No sum of steps may carry from one digit into the next.
        let stays = digits.iter().zip(&self.axes).all(|(digit, (extent, _))| digit < extent);
        stays.then(|| Self::new(offset, axes))
    }

    /// Strides of an array of this shape whose elements lie so; `None` where an axis has none.
    pub fn strides(&self, shape: &[usize]) -> Option<Vec<usize>> {
        let units = self.units();
        let mut unit = 1;
        let mut strides = Vec::with_capacity(shape.len());
        for extent in shape.iter().rev() {
            let fits = |(digit, _): &(usize, usize)| unit * extent <= units[*digit] * self.axes[*digit].0;
            strides.push(if *extent == 1 { 0 } else { self.step(&units, unit).filter(fits)?.1 });
            unit *= extent;
        }
        strides.reverse();
        Some(strides)
    }

    /// The map back, for one that leaves no place out and takes none twice.
    pub fn inverse(&self) -> Option<Self> {
        let mut order: Vec<((usize, usize), usize)> = self.axes.iter().copied().zip(self.units()).collect();
        order.sort_by_key(|((_, stride), _)| std::cmp::Reverse(*stride));
        let mut unit = 1;
        for ((extent, stride), _) in order.iter().rev() {
            if *stride != unit {
                return None;
            }
            unit *= extent;
        }
        (self.offset == 0).then(|| Self::new(0, order.into_iter().map(|((extent, _), unit)| (extent, unit))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// [a, b, c] with its axes in this order.
    fn turned(shape: [usize; 3], order: [usize; 3]) -> Strided {
        let strides = [shape[1] * shape[2], shape[2], 1];
        Strided::new(0, order.map(|axis| (shape[axis], strides[axis])))
    }

    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

    #[test]
    fn nothing_has_a_place_in_what_is_empty() {
        for axes in [vec![(0, 1)], vec![(3, 0), (0, 1)], vec![(0, 4), (4, 1)]] {
            assert_eq!(Strided::new(0, axes).of(&Strided::whole(0)), None);
        }
        assert!(Strided::whole(1).of(&Strided::whole(1)).is_some());
    }

    #[test]
    fn heads_are_strides() {
        // [197, 3 × 12 × 64]: keys of 12 heads of 64 elements, as [12, 197, 64].
        let packed = Strided::whole(197 * 2304);
        let keys = packed.of(&Strided::new(768, [(197, 2304), (768, 1)])).expect("a slice");
        let heads = keys.of(&Strided::new(0, [(12, 64), (197, 768), (64, 1)])).expect("a transposition");
        assert_eq!(heads, Strided::new(768, [(12, 64), (197, 2304), (64, 1)]));
        assert_eq!(heads.strides(&[12, 197, 64]), Some(vec![64, 2304, 1]));
        assert_eq!(heads.strides(&[2, 6, 197, 8, 8]), Some(vec![384, 64, 2304, 8, 1]));
        assert_eq!(heads.strides(&[12 * 197, 64]), None);
        assert_eq!(heads.inverse(), None);
    }

    #[test]
    fn what_carries_has_no_strides() {
        let rows = Strided::new(0, [(4, 10), (6, 1)]);
        assert_eq!(rows.of(&Strided::new(0, [(8, 3)])), Some(Strided::new(0, [(4, 10), (2, 3)])));
        assert_eq!(rows.of(&Strided::new(1, [(8, 3)])), Some(Strided::new(1, [(4, 10), (2, 3)])));
        assert_eq!(rows.of(&Strided::new(0, [(5, 4)])), None);
        assert_eq!(rows.of(&Strided::new(3, [(2, 1), (3, 1)])), None);
        assert_eq!(rows.of(&Strided::new(24, [])), None);
    }

    proptest! {
        #[test]
        fn maps_compose_and_invert(
            a in 1usize..5, b in 1usize..5, c in 1usize..5, first in 0usize..6, second in 0usize..6, cut in 0usize..6,
        ) {
            let one = turned([a, b, c], ORDERS[first]);
            // The same elements in another shape, turned again.
            let shape = ORDERS[cut].map(|axis| [a, b, c][axis]);
            let two = turned(shape, ORDERS[second]);
            if let Some(both) = one.of(&two) {
                prop_assert!((0..a * b * c).all(|l| both.place(l) == one.place(two.place(l))));
            }
            let back = one.inverse().expect("nothing is left out");
            prop_assert!((0..a * b * c).all(|l| back.place(one.place(l)) == l));
            if let Some(strides) = one.strides(&[b, a, c]) {
                let at = |l: usize| l / (a * c) * strides[0] + l / c % a * strides[1] + l % c * strides[2];
                prop_assert!((0..a * b * c).all(|l| at(l) == one.place(l)));
            }
        }

        #[test]
        fn windows_compose(a in 1usize..6, b in 1usize..6, from in 0usize..10, n in 1usize..6, step in 0usize..8) {
            let rows = Strided::new(3, [(a, 20), (b, 2)]);
            let window = Strided::new(from, [(n, step)]);
            let inside = from + (n - 1) * step < a * b;
            if let Some(both) = rows.of(&window).filter(|_| inside) {
                prop_assert!((0..n).all(|l| both.place(l) == rows.place(window.place(l))));
            }
        }
    }
}
