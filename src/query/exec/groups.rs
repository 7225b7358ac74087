//! The groups of GROUP BY: tag values in the order of the dimensions, numbered as they are met.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// The values of the dimensions of a group; a missing tag is the empty text.
pub type Key = Box<[Arc<str>]>;

/// See the module.
#[derive(Clone, Default)]
pub struct Groups {
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    list: Vec<Key>,
    text_bytes: usize,
}

impl Groups {
    /// The number of a group; a new one gets the next.
    pub fn number(&mut self, key: &[Arc<str>]) -> u32 {
        let (list, hasher) = (&self.list, &self.hasher);
        let hash = hasher.hash_one(key);
        if let Some(&known) = self.numbers.find(hash, |&n| *list[n as usize] == *key) {
            return known;
        }
        let number = list.len() as u32;
        self.numbers
            .insert_unique(hash, number, |&n| hasher.hash_one(&*list[n as usize]));
        self.text_bytes += key.iter().map(|text| text.len() + 48).sum::<usize>();
        self.list.push(key.into());
        number
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// None yet.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The values of a group.
    pub fn key(&self, number: u32) -> &[Arc<str>] {
        &self.list[number as usize]
    }

    /// Numbers in the order of their values.
    pub fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.list.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        order
    }

    /// Takes over the groups of another worker: what each of its numbers is here.
    pub fn absorb(&mut self, other: &Self) -> Vec<u32> {
        other.list.iter().map(|key| self.number(key)).collect()
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        self.text_bytes + self.list.len() * 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(texts: &[&str]) -> Vec<Arc<str>> {
        texts.iter().map(|t| Arc::from(*t)).collect()
    }

    #[test]
    fn numbers_are_kept_and_taken_over() {
        let (mut one, mut two) = (Groups::default(), Groups::default());
        for (texts, number) in [(["b", ""], 0), (["a", "x"], 1), (["b", ""], 0), (["", "b"], 2)] {
            assert_eq!(one.number(&key(&texts)), number);
        }
        for texts in [["z", "z"], ["a", "x"]] {
            two.number(&key(&texts));
        }
        assert_eq!(one.absorb(&two), [3, 1]);
        assert_eq!(one.sorted(), [2, 1, 0, 3]);
        let mut none = Groups::default();
        assert_eq!((none.number(&[]), none.number(&[])), (0, 0));
    }
}
