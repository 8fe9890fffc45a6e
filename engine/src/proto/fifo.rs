//! A first-in-first-out queue whose next place is lent to be written: what is queued is built where it will lie.

/// Places at first.
const PLACES_MIN: usize = 4;

/// A ring that grows. Without elements it may hold no memory.
#[derive(Debug)]
pub(super) struct Fifo<T> {
    /// None, or a power of two of them; what is queued is there.
    places: Box<[Option<T>]>,
    first: usize,
    len: usize,
}

impl<T> Fifo<T> {
    pub(super) fn new() -> Self {
        Self { places: Box::default(), first: 0, len: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn at(&self, index: usize) -> usize {
        self.first.wrapping_add(index) & self.places.len().wrapping_sub(1)
    }

    /// Appends what `make` makes; if that is `None`, nothing.
    #[inline(always)]
    pub(super) fn push_with(&mut self, make: impl FnOnce() -> Option<T>) {
        if self.len == self.places.len() {
            self.grow();
        }
        let at = self.at(self.len);
        if let Some(place) = self.places.get_mut(at) {
            // It is empty: there is nothing to be dropped.
            std::mem::forget(std::mem::replace(place, make()));
            self.len += usize::from(place.is_some());
        }
    }

    /// Takes the oldest.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<T> {
        let taken = self.places.get_mut(self.first)?.take()?;
        (self.first, self.len) = (self.at(1), self.len - 1);
        Some(taken)
    }

    /// The oldest.
    pub(super) fn front(&self) -> Option<&T> {
        self.places.get(self.first)?.as_ref()
    }

    #[cold]
    fn grow(&mut self) {
        let mut places: Vec<Option<T>> = Vec::with_capacity((2 * self.places.len()).max(PLACES_MIN));
        places.extend((0..self.len).map(|index| self.places[self.at(index)].take()));
        places.resize_with(places.capacity().next_power_of_two(), || None);
        (self.places, self.first) = (places.into(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn does_as_vecdeque(pushes in prop::collection::vec(any::<bool>(), 0..200)) {
            let (mut fifo, mut model) = (Fifo::new(), VecDeque::new());
            for (number, push) in pushes.into_iter().enumerate() {
                // Boxes: a leak or a second drop is seen by the tools that look for those.
                if push {
                    fifo.push_with(|| Some(Box::new(number)));
                    model.push_back(Box::new(number));
                } else {
                    prop_assert_eq!(fifo.pop(), model.pop_front());
                }
                prop_assert_eq!((fifo.len(), fifo.front()), (model.len(), model.front()));
                prop_assert_eq!(fifo.is_empty(), model.is_empty());
            }
        }
    }
}
