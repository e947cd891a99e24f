//! Just enough of DER to walk certificates and OCSP responses.

/// What is left of a sequence of elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With its tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements inside.
    pub(super) fn inside(self) -> Der<'a> {
        Der(self.content)
    }
}

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const TIME: u8 = 0x18;

/// The tag of a structure in the context: `[number]`.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

impl<'a> Der<'a> {
    /// The next element, if it is whole.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let bytes = usize::from(first & 0x7f);
            if bytes == 0 || bytes > 4 {
                return None;
            }
            let (length, after) = rest.split_at_checked(bytes)?;
            rest = after;
            length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element {
            tag,
            content,
            whole,
        })
    }

    /// The next element, if it has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// The next element, if it has this tag; else nothing is taken.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.expect(tag)?;
        *self = ahead;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_that_are_not_whole_are_none() {
        let mut der = Der(&[0x30, 0x03, 0x0a, 0x01, 0x05, 0x04, 0x81, 0x01, 0xff]);
        let mut inside = der.expect(SEQUENCE).expect("whole").inside();
        assert!(inside.optional(OCTETS).is_none());
        assert_eq!(inside.optional(ENUMERATED).expect("there").content, [5]);
        assert!(inside.next().is_none());
        assert_eq!(der.next().expect("a long length").whole, [4, 0x81, 1, 0xff]);
        for broken in [
            &[][..],
            &[4],
            &[4, 2, 0],
            &[4, 0x80],
            &[4, 0x85, 0, 0, 0, 0, 0],
            &[4, 0x82, 1],
        ] {
            assert!(Der(broken).next().is_none(), "{broken:?}");
        }
    }
}
