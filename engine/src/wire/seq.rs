//! Sequence numbers: 32 bits that wrap (RFC 9293 section 3.4).

use std::{fmt, ops};

/// A TCP sequence number.
///
/// Order exists only between numbers less than 2³¹ apart (RFC 1982), and is not transitive; so there is no `Ord`, and `<` does not compile.
/// Of two numbers exactly 2³¹ apart, each is [`lt`](Self::lt) the other.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Comes before `other`.
    #[inline]
    pub const fn lt(self, other: Self) -> bool {
        self.diff(other) < 0
    }

    /// Comes before `other`, or is the same.
    #[inline]
    pub const fn le(self, other: Self) -> bool {
        self.diff(other) <= 0
    }

    /// Comes after `other`.
    #[inline]
    pub const fn gt(self, other: Self) -> bool {
        other.lt(self)
    }

    /// Comes after `other`, or is the same.
    #[inline]
    pub const fn ge(self, other: Self) -> bool {
        other.le(self)
    }

    /// How many numbers from `earlier` up to this one, modulo 2³²: huge if `earlier` is in truth later.
    #[inline]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The signed distance from `other` to this one: negative if this one comes first.
    #[inline]
    pub const fn diff(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// One of the `len` numbers from `start` on.
    #[inline]
    pub const fn in_window(self, start: Self, len: u32) -> bool {
        self.since(start) < len
    }

    /// The later of the two.
    #[inline]
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.lt(other) { other } else { self }
    }

    /// The earlier of the two.
    #[inline]
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if other.lt(self) { other } else { self }
    }
}

/// Forward by a number of bytes, wrapping.
impl ops::Add<u32> for SeqNum {
    type Output = Self;
    #[inline]
    fn add(self, by: u32) -> Self {
        Self(self.0.wrapping_add(by))
    }
}

impl ops::AddAssign<u32> for SeqNum {
    #[inline]
    fn add_assign(&mut self, by: u32) {
        *self = *self + by;
    }
}

/// Back by a number of bytes, wrapping.
impl ops::Sub<u32> for SeqNum {
    type Output = Self;
    #[inline]
    fn sub(self, by: u32) -> Self {
        Self(self.0.wrapping_sub(by))
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn across_the_wrap() {
        let (last, first) = (SeqNum(u32::MAX), SeqNum(0));
        assert!(last.lt(first) && first.gt(last) && last.le(first) && first.ge(last));
        assert_eq!((first.since(last), first.diff(last), last.diff(first)), (1, 1, -1));
        assert_eq!((last.max(first), last.min(first)), (first, last));
        assert_eq!((last + 1, first - 1), (first, last));
        assert!(SeqNum(3).in_window(last, 5) && !SeqNum(4).in_window(last, 5));
        assert!(!last.in_window(last, 0), "nothing is in an empty window");
        assert!(!last.in_window(first, 5), "before the window");
    }

    proptest! {
        /// RFC 1982 section 3.2: for 0 < by < 2³¹, s + by > s.
        #[test]
        fn order_is_that_of_addition(start: u32, by in 1u32..1 << 31) {
            let start = SeqNum(start);
            let later = start + by;
            prop_assert!(start.lt(later) && start.le(later) && later.gt(start) && later.ge(start));
            prop_assert!(!later.lt(start) && !later.le(start) && !start.gt(later) && !start.ge(later));
            prop_assert_eq!(later.since(start), by);
            prop_assert_eq!(later.diff(start), by as i32);
            prop_assert_eq!(start.diff(later), -(by as i32));
            prop_assert_eq!((start.max(later), later.max(start)), (later, later));
            prop_assert_eq!((start.min(later), later.min(start)), (start, start));
            prop_assert_eq!(later - by, start);
        }

        #[test]
        fn windows(start: u32, len: u32, offset: u32) {
            prop_assert_eq!((SeqNum(start) + offset).in_window(SeqNum(start), len), offset < len);
        }

        #[test]
        fn reflexive(number: u32) {
            let number = SeqNum(number);
            prop_assert!(number.le(number) && number.ge(number) && !number.lt(number) && !number.gt(number));
        }
    }
}
