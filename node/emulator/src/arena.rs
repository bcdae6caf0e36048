//! Memory whose end is the end of a page, with a page behind it that cannot be touched.

#![allow(unsafe_code, reason = "pages come from the system, and kernels get pointers into them")]

use std::{ffi::c_void, num::NonZeroUsize, ptr::NonNull};

use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap},
    unistd::{SysconfVar, sysconf},
};

/// What fresh memory holds: not-a-number.
const POISON: u8 = 0xff;

/// Pages of one buffer.
#[derive(Debug)]
pub(crate) struct Arena {
    pages: NonNull<c_void>,
    mapped: usize,
    /// Where the buffer begins within the pages.
    offset: usize,
    bytes: usize,
    page: usize,
}

// SAFETY: plain memory; who uses it when is the owner's business.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// `bytes` bytes that begin at a multiple of `alignment` and end less than that before the page that nobody may touch.
    pub(crate) fn new(bytes: usize, alignment: usize) -> std::io::Result<Self> {
        let page =
            sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096);
        let rounded = bytes.next_multiple_of(alignment);
        // a page before it too, and at least a byte between that page and the buffer
        let usable = page + (rounded + 1).next_multiple_of(page);
        let mapped = usable + page;
        let length = NonZeroUsize::new(mapped).ok_or_else(|| std::io::Error::other("no bytes"))?;
        // SAFETY: fresh pages, wherever the system likes.
        let pages = unsafe {
            mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?;
        let arena = Self { pages, mapped, offset: usable - rounded, bytes, page };
        for guard in [0, usable] {
            // SAFETY: a page of the mapping.
            unsafe { mprotect(pages.byte_add(guard), page, ProtFlags::PROT_NONE) }?;
        }
        // SAFETY: between the two guards everything may be written.
        unsafe { pages.byte_add(page).cast::<u8>().write_bytes(POISON, usable - page) };
        Ok(arena)
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Address of byte `at`.
    pub(crate) fn address(&self, at: usize) -> *mut u8 {
        assert!(at <= self.bytes, "byte {at} of {}", self.bytes);
        // SAFETY: inside the mapping.
        unsafe { self.pages.byte_add(self.offset + at) }.cast().as_ptr()
    }

    /// Whether nobody wrote beside the buffer, on its own pages.
    pub(crate) fn margins_are_whole(&self) -> bool {
        let end = self.mapped - self.page;
        let before = self.page..self.offset;
        let behind = self.offset + self.bytes..end;
        before.chain(behind).all(|at| {
            // SAFETY: between the two guards.
            unsafe { self.pages.byte_add(at).cast::<u8>().read() == POISON }
        })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        let _unmapped = unsafe { munmap(self.pages, self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_end_at_their_guard_and_their_margins_are_watched() {
        for (bytes, alignment) in [(1, 4), (7, 16), (4096, 16), (5000, 256)] {
            let arena = Arena::new(bytes, alignment).unwrap();
            assert_eq!(arena.address(0) as usize % alignment, 0);
            assert_eq!((arena.address(0) as usize + bytes.next_multiple_of(alignment)) % arena.page, 0);
            assert!(arena.margins_are_whole());
            // SAFETY: before the buffer, on its own page.
            unsafe { arena.address(0).sub(1).write(0) };
            assert!(!arena.margins_are_whole());
        }
    }
}
