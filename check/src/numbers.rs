//! Small numbers for long identifiers: what is kept once per message must be short.

use std::collections::BTreeMap;

/// Gives each distinct value a number, from 0, in the order in which they come.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    numbers: BTreeMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers { numbers: BTreeMap::new(), values: Vec::new() }
    }
}

impl<T: Ord + Clone> Numbers<T> {
    /// The number of `value`.
    pub(crate) fn of(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.values.push(value.clone());
        self.numbers.insert(value.clone(), number);
        number
    }

    /// The value that has `number`, which must have come from [`Numbers::of`].
    pub(crate) fn value(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}
