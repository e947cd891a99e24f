//! Where the parts of generated code come from: source maps, for the stacks of errors.

/// Line and column, from 0.
type Place = (u32, u32);

/// Places in generated code, in order, each with the place it comes from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions(Vec<(Place, Place)>);

impl Positions {
    /// From pairs of generated and original places, counted from 0.
    pub(crate) fn new(places: impl Iterator<Item = (Place, Place)>) -> Self {
        let mut places: Vec<_> = places.collect();
        places.sort();
        places.shrink_to_fit();
        Self(places)
    }

    /// The original of a place in the generated code, both counted from 1. Between two known
    /// places the text is the same up to what was taken away, so columns go on from the nearest.
    pub(crate) fn original(&self, line: usize, column: usize) -> Option<(usize, usize)> {
        let line = u32::try_from(line.checked_sub(1)?).ok()?;
        let column = u32::try_from(column.checked_sub(1)?).ok()?;
        let after = self
            .0
            .partition_point(|(generated, _)| *generated <= (line, column));
        let ((known_line, known_column), (from_line, from_column)) =
            *self.0.get(after.checked_sub(1)?)?;
        let further = if known_line == line {
            column - known_column
        } else {
            0
        };
        Some((from_line as usize + 1, (from_column + further) as usize + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::Positions;

    #[test]
    fn places_between_known_ones_go_on_from_the_nearest() {
        let positions = Positions::new([((2, 0), (9, 0)), ((0, 4), (1, 8))].into_iter());
        assert_eq!(positions.original(1, 5), Some((2, 9)));
        assert_eq!(positions.original(1, 7), Some((2, 11)));
        assert_eq!(positions.original(2, 1), Some((2, 9)));
        assert_eq!(positions.original(3, 2), Some((10, 2)));
        assert_eq!(positions.original(1, 4), None);
        assert_eq!(positions.original(0, 0), None);
    }
}
