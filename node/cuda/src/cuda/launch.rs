//! Launches: arguments with their extents checked, shapes, failures.

#![allow(unsafe_code, reason = "a launch is only as safe as its arguments, which are checked here")]

use talkoot_trainer::backend::{BackendError, Columns, ColumnsMut, Done};

use super::Cuda;
use crate::{
    buffer::{Buffer, Lent, Place},
    class::Class,
    device::{Argument, Device, DeviceError, Shape},
    kernels::Kernel,
};

/// Part of a buffer, as kernels get it.
#[derive(Debug)]
pub(crate) struct Part<'a, D: Device> {
    pub(crate) buffer: &'a Buffer<D>,
    /// Its first number.
    pub(crate) start: usize,
}

impl<D: Device> Clone for Part<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Part<'_, D> {}

impl<D: Device> Buffer<D> {
    /// All of it.
    pub(crate) fn all(&self) -> Part<'_, D> {
        Part { buffer: self, start: 0 }
    }

    /// What lies behind its first `start` numbers.
    pub(crate) fn from(&self, start: usize) -> Part<'_, D> {
        Part { buffer: self, start }
    }
}

impl<'a, D: Device> Part<'a, D> {
    /// The argument of a kernel that reads or writes `count` numbers of it.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub(crate) fn holding(self, count: usize) -> Argument<'a, D::Memory> {
        self.check(count);
        Argument::Memory(self.buffer.memory(), self.start * size_of::<f32>())
    }

    fn check(self, count: usize) {
        let Part { buffer, start } = self;
        let inside = start.checked_add(count).is_some_and(|end| end <= buffer.len);
        assert!(inside, "{count} numbers from {start} on, of {}", buffer.len);
    }

    /// Where halves stand, if it is halves: memory, and the byte that `count` of them begin at.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub(crate) fn halves(self, count: usize) -> Option<(&'a D::Memory, usize)> {
        let Place::Half(lent) = &self.buffer.place else { return None };
        self.check(count);
        Some((lent.memory(), self.start * HALF))
    }

    /// The argument of a kernel that reads `count` numbers of it, and which of two kernels that is: that of numbers, or that of
    /// halves.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub(crate) fn either(self, count: usize, kernels: [Kernel; 2]) -> (Argument<'a, D::Memory>, Kernel) {
        let [of_numbers, of_halves] = kernels;
        match self.halves(count) {
            Some((memory, at)) => (Argument::Memory(memory, at), of_halves),
            None => (self.holding(count), of_numbers),
        }
    }
}

/// Bytes of a half.
pub(crate) const HALF: usize = 2;

/// Numbers that a matrix spans: `rows` rows of `width`, `stride` apart.
pub(crate) fn extent(rows: usize, width: usize, stride: usize) -> usize {
    if rows == 0 || width == 0 { 0 } else { (rows - 1) * stride + width }
}

/// Columns as the argument of a kernel that goes through `rows` rows of `width` numbers.
pub(crate) fn columns<'a, D: Device>(
    columns: &Columns<'a, Buffer<D>>,
    rows: usize,
    width: usize,
) -> Argument<'a, D::Memory> {
    columns.buffer.from(columns.start).holding(extent(rows, width, columns.stride))
}

/// As [`columns`], to be written.
pub(crate) fn columns_mut<'a, D: Device>(
    columns: &'a ColumnsMut<'_, Buffer<D>>,
    rows: usize,
    width: usize,
) -> Argument<'a, D::Memory> {
    columns.buffer.from(columns.start).holding(extent(rows, width, columns.stride))
}

/// A size, as kernels count rows and columns.
///
/// # Panics
///
/// When it has more than 32 bits.
pub(crate) fn size<'a, M>(size: usize) -> Argument<'a, M> {
    Argument::U32(u32::try_from(size).expect("rows and columns are counted in 32 bits"))
}

/// A distance or a count of numbers.
pub(crate) fn count<'a, M>(count: usize) -> Argument<'a, M> {
    Argument::U64(count as u64)
}

/// Blocks side by side, each of `threads` threads for `each` of `work`.
pub(crate) fn line(work: usize, each: usize, threads: u32) -> Shape {
    grid([work.div_ceil(each), 1], threads)
}

/// Blocks in a rectangle.
pub(crate) fn grid([x, y]: [usize; 2], threads: u32) -> Shape {
    let [x, y] = [x, y].map(|n| u32::try_from(n).expect("blocks are counted in 32 bits"));
    Shape { grid: [x, y, 1], block: [threads, 1, 1], shared_bytes: 0 }
}

/// A failure of the device as one of an operation.
pub(crate) fn during(operation: &'static str) -> impl Fn(DeviceError) -> BackendError {
    move |error| match error {
        DeviceError::OutOfMemory { bytes } => BackendError::OutOfMemory { bytes: bytes as u64 },
        other => BackendError::Device { operation, reason: other.to_string() },
    }
}

impl<D: Device, C: Class> Cuda<D, C> {
    /// Starts a kernel, unless there is nothing to do.
    pub(crate) fn run(
        &self,
        operation: &'static str,
        kernel: Kernel,
        shape: Shape,
        arguments: &[Argument<'_, D::Memory>],
    ) -> Done {
        if shape.grid.contains(&0) {
            return Ok(());
        }
        // SAFETY: pointers are made by `Part::holding`, which holds them to what the kernel reads and writes; kinds and
        // number of arguments are held to the kernel's declaration by the tests, which run every kernel.
        let started = unsafe { self.device().launch(kernel, shape, arguments) };
        started.map_err(during(operation))
    }

    /// Memory for so many bytes of any contents.
    pub(crate) fn scratch_bytes(&self, operation: &'static str, bytes: usize) -> Done<Lent<D>> {
        self.pool.take(bytes).map_err(during(operation))
    }

    /// Numbers of rows, on the device.
    pub(crate) fn indices(&self, operation: &'static str, numbers: &[u32]) -> Done<Lent<D>> {
        let bytes: &[u8] = bytemuck::cast_slice(numbers);
        let lent = self.pool.take(bytes.len()).map_err(during(operation))?;
        if !bytes.is_empty() {
            self.device().upload(bytes, lent.memory(), 0).map_err(during(operation))?;
        }
        Ok(lent)
    }
}
