//! Doubly linked lists through the elements of a slice: constant-time removal from the middle, no memory of their own.

const NIL: u32 = u32::MAX;

/// An element's place in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// In no list.
    pub(super) const LOOSE: Self = Self { prev: NIL, next: NIL };

    /// The element behind this one.
    pub(super) fn next(self) -> Option<usize> {
        (self.next != NIL).then_some(self.next as usize)
    }
}

/// The ends of a list. `link` names which of an element's links the list runs through.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL };

    pub(super) fn front(&self) -> Option<usize> {
        (self.head != NIL).then_some(self.head as usize)
    }

    pub(super) fn push_back<T>(&mut self, of: &mut [T], at: usize, link: fn(&mut T) -> &mut Link) {
        *link(&mut of[at]) = Link { prev: self.tail, next: NIL };
        match self.tail {
            NIL => self.head = at as u32,
            tail => link(&mut of[tail as usize]).next = at as u32,
        }
        self.tail = at as u32;
    }

    /// Takes out an element that is in this list.
    pub(super) fn unlink<T>(&mut self, of: &mut [T], at: usize, link: fn(&mut T) -> &mut Link) {
        let Link { prev, next } = std::mem::replace(link(&mut of[at]), Link::LOOSE);
        match prev {
            NIL => self.head = next,
            prev => link(&mut of[prev as usize]).next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => link(&mut of[next as usize]).prev = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_at_both_ends_and_in_the_middle() {
        let mut links = [Link::LOOSE; 5];
        let mut list = List::EMPTY;
        let order = |list: &List, links: &[Link]| {
            std::iter::successors(list.front(), |&at| links[at].next()).collect::<Vec<_>>()
        };
        for at in [3, 1, 4, 0] {
            list.push_back(&mut links, at, |link| link);
        }
        assert_eq!(order(&list, &links), [3, 1, 4, 0]);
        list.unlink(&mut links, 1, |link| link);
        list.unlink(&mut links, 0, |link| link);
        list.push_back(&mut links, 2, |link| link);
        list.unlink(&mut links, 3, |link| link);
        assert_eq!(order(&list, &links), [4, 2]);
        list.unlink(&mut links, 4, |link| link);
        list.unlink(&mut links, 2, |link| link);
        assert_eq!(order(&list, &links), [0usize; 0]);
        list.push_back(&mut links, 1, |link| link);
        assert_eq!(order(&list, &links), [1]);
    }
}
