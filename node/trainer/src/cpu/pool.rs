//! Buffers that are used again, so that a step does not ask the system for memory that the last one gave back.
//!
//! A fresh allocation of some megabytes costs page faults and zeroing by the kernel, which took about a seventh of a
//! step before. A buffer that is dropped goes to the pool's shelf; the next one takes the smallest that fits.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// Buffers that nobody uses, by capacity.
type Shelf = Mutex<BTreeMap<usize, Vec<Vec<f32>>>>;

/// Where buffers come from and go back to.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Shelf>);

/// A buffer that goes back to its pool when it is dropped.
pub struct Buffer {
    /// As many as were ever asked for, so that none is written only to be there.
    numbers: Vec<f32>,
    len: usize,
    pool: Pool,
}

/// A shelved buffer may be this many times larger than what is asked for.
pub(crate) const WASTE: usize = 2;

impl Pool {
    /// `len` numbers of any value.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let mut numbers = self.reuse(len).unwrap_or_else(|| Vec::with_capacity(len));
        if numbers.len() < len {
            numbers.resize(len, 0.0);
        }
        Buffer { numbers, len, pool: self.clone() }
    }

    /// `len` zeros.
    pub(crate) fn zeros(&self, len: usize) -> Buffer {
        match self.reuse(len) {
            Some(mut numbers) => {
                let there = numbers.len().min(len);
                numbers[..there].fill(0.0);
                numbers.resize(numbers.len().max(len), 0.0);
                Buffer { numbers, len, pool: self.clone() }
            }
            // the system hands out zeroed pages without touching them
            None => Buffer { numbers: vec![0.0; len], len, pool: self.clone() },
        }
    }

    /// Gives everything on the shelf back to the system.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn reuse(&self, len: usize) -> Option<Vec<f32>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (&capacity, of_that_size) = shelf.range_mut(len..=len.saturating_mul(WASTE)).next()?;
        let found = of_that_size.pop();
        if of_that_size.is_empty() {
            shelf.remove(&capacity);
        }
        found
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        if numbers.capacity() > 0 {
            let mut shelf = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.entry(numbers.capacity()).or_default().push(numbers);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers", self.len)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_serves_the_next_of_similar_size() {
        let pool = Pool::default();
        let address = pool.take(1000).as_ptr();
        assert_eq!(pool.take(600).as_ptr(), address, "600 of 1000 are worth reusing");
        assert_eq!(pool.zeros(1000).as_ptr(), address);
        assert_ne!(pool.take(100).as_ptr(), address, "a tenth would waste the rest");
        pool.clear();
        assert!(pool.reuse(1000).is_none());
    }

    #[test]
    fn zeros_are_zero_though_the_buffer_was_used() {
        let pool = Pool::default();
        pool.take(64).fill(7.0);
        assert!(pool.zeros(64).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn a_buffer_is_as_long_as_was_asked_for_whatever_it_was_before() {
        let pool = Pool::default();
        pool.take(64).fill(7.0);
        let shorter = pool.zeros(40);
        assert_eq!((shorter.len(), shorter.iter().sum::<f32>()), (40, 0.0));
        drop(shorter);
        let longer = pool.zeros(64);
        assert_eq!((longer.len(), longer.iter().sum::<f32>()), (64, 0.0));
    }
}
