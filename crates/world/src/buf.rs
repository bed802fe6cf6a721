//! Page-aligned memory for direct I/O, without unsafe code: a buffer is a vector of aligned pages.

use bytes::Bytes;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Alignment and granularity of direct I/O, in bytes.
pub const PAGE: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Owned, zeroed, page-aligned memory of a whole number of pages. Turns into [`Bytes`] without a copy,
/// and the bytes keep the alignment.
pub struct Buf {
    pages: Vec<Page>,
}

impl Buf {
    /// Zeroed memory of at least `len` bytes, rounded up to whole pages.
    ///
    /// # Panics
    /// When the allocator has no memory left.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let pages = Page::new_vec_zeroed(len.div_ceil(PAGE)).expect("out of memory");
        Self { pages }
    }

    /// A copy of `data`, padded with zeros to whole pages.
    #[must_use]
    pub fn copy_of(data: &[u8]) -> Self {
        let mut buf = Self::zeroed(data.len());
        buf[..data.len()].copy_from_slice(data);
        buf
    }

    /// Shared, immutable, still aligned.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Whether `data` may be handed to a direct I/O device as it is.
    #[must_use]
    pub fn is_aligned(data: &[u8]) -> bool {
        data.as_ptr().addr().is_multiple_of(PAGE) && data.len().is_multiple_of(PAGE)
    }
}

impl std::ops::Deref for Buf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.pages.as_bytes()
    }
}

impl std::ops::DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.pages.as_mut_bytes()
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_buffers_stay_aligned_and_keep_their_bytes() {
        let bytes = Buf::copy_of(b"azekura").freeze();
        assert!(Buf::is_aligned(&bytes));
        assert_eq!(bytes.len(), PAGE);
        assert_eq!(&bytes[..8], b"azekura\0");
        assert!(!Buf::is_aligned(&bytes[1..]));
    }
}
