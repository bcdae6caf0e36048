//! The `k` largest of a chunk, without sorting it.
//!
//! The chunk is laid out as rows of `columns >= 4 k` entries, and the largest of each column found (a vertical
//! maximum, which vectorises). The `k`-th largest of these is a value that at least `k` entries reach, because
//! `k` columns do, and few more than `k` do: about 73 at 64 of 4,096. Only columns that reach it are looked at
//! again, and only what is found there is selected from. The result is exact whatever the data.

/// Buffers for [`Selector::largest`], reused from chunk to chunk.
#[derive(Debug, Default)]
pub(super) struct Selector {
    columns: Vec<f32>,
    order: Vec<u32>,
    found: Vec<u64>,
    marks: Vec<u64>,
}

impl Selector {
    /// Puts into `positions` where the `k` largest non-zero `magnitudes` stand, ascending; ties go to the lower
    /// position. There are fewer than `k` when fewer are non-zero.
    ///
    /// Magnitudes are finite and not negative, their signs clear, so their bits compare as they do.
    pub(super) fn largest(&mut self, magnitudes: &[f32], k: usize, positions: &mut Vec<u16>) {
        self.candidates(magnitudes, k);
        if self.found.len() > k {
            self.found.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
            self.found.truncate(k);
        }
        // a bitmap sorts 64 of 4,096 several times faster than a sort does
        self.marks.clear();
        self.marks.resize(magnitudes.len().div_ceil(64), 0);
        for &key in &self.found {
            let position = !(key as u32);
            self.marks[position as usize / 64] |= 1 << (position % 64);
        }
        positions.clear();
        for (word, &mark) in self.marks.iter().enumerate() {
            let mut mark = mark;
            while mark != 0 {
                positions.push((word * 64) as u16 + mark.trailing_zeros() as u16);
                mark &= mark - 1;
            }
        }
    }

    /// Leaves in `found` the keys of all non-zero entries that may be among the `k` largest.
    fn candidates(&mut self, magnitudes: &[f32], k: usize) {
        self.found.clear();
        let rows = magnitudes.len() / (4 * k);
        if rows < 2 {
            self.scan(magnitudes, 0, 1, f32::MIN_POSITIVE);
            return;
        }
        let columns = magnitudes.len() / rows;
        let (table, rest) = magnitudes.split_at(columns * rows);
        self.columns.clear();
        self.columns.extend_from_slice(&table[..columns]);
        for row in table.chunks_exact(columns).skip(1) {
            for (top, &value) in self.columns.iter_mut().zip(row) {
                *top = if value > *top { value } else { *top };
            }
        }
        self.order.clear();
        self.order.extend(self.columns.iter().map(|top| top.to_bits()));
        let (_, &mut floor, _) = self.order.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
        // zeros are never sent; subnormals were flushed before
        let floor = f32::from_bits(floor).max(f32::MIN_POSITIVE);
        for column in 0..columns {
            if self.columns[column] >= floor {
                self.scan(table, column, columns, floor);
            }
        }
        for (at, &value) in rest.iter().enumerate() {
            if value >= floor {
                self.found.push(key(value, table.len() + at));
            }
        }
    }

    #[inline]
    fn scan(&mut self, values: &[f32], from: usize, step: usize, floor: f32) {
        for at in (from..values.len()).step_by(step) {
            if values[at] >= floor {
                self.found.push(key(values[at], at));
            }
        }
    }
}

/// Larger magnitudes give larger keys, and of equal ones the lower position does.
#[inline]
fn key(magnitude: f32, position: usize) -> u64 {
    u64::from(magnitude.to_bits()) << 32 | u64::from(!(position as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, by sorting.
    fn by_sorting(magnitudes: &[f32], k: usize) -> Vec<u16> {
        let mut order: Vec<usize> = (0..magnitudes.len()).filter(|&i| magnitudes[i] > 0.0).collect();
        order.sort_by(|&a, &b| magnitudes[b].total_cmp(&magnitudes[a]).then(a.cmp(&b)));
        order.truncate(k);
        order.sort_unstable();
        order.into_iter().map(|i| i as u16).collect()
    }

    proptest! {
        #[test]
        fn selection_equals_sorting(
            values in prop::collection::vec(prop_oneof![0u32..4, 0u32..1000], 1..3000),
            share in 1usize..200,
        ) {
            let magnitudes: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let k = magnitudes.len().div_ceil(share);
            let mut positions = Vec::new();
            Selector::default().largest(&magnitudes, k, &mut positions);
            prop_assert_eq!(positions, by_sorting(&magnitudes, k));
        }
    }

    #[test]
    fn ties_go_to_the_lower_position_in_the_largest_chunk() {
        let mut positions = Vec::new();
        let mut selector = Selector::default();
        selector.largest(&[2.5; 65_536], 3, &mut positions);
        assert_eq!(positions, [0, 1, 2]);
        let mut magnitudes = vec![0.0; 65_536];
        magnitudes[65_535] = 1.0;
        selector.largest(&magnitudes, 1000, &mut positions);
        assert_eq!(positions, [65_535]);
        selector.largest(&[0.0; 4096], 64, &mut positions);
        assert!(positions.is_empty());
    }
}
