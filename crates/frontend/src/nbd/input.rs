//! Received bytes as the chunks they came in, taken off the front without copying.

use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes that were received and not yet parsed. Chunks in it are never empty.
#[derive(Default)]
pub(crate) struct Input {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl From<Vec<Bytes>> for Input {
    fn from(chunks: Vec<Bytes>) -> Self {
        let mut input = Self::default();
        chunks.into_iter().for_each(|chunk| input.push(chunk));
        input
    }
}

impl Input {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Length of the first chunk.
    pub(crate) fn front_len(&self) -> usize {
        self.chunks.front().map_or(0, Bytes::len)
    }

    /// Takes bytes off the front into all of `target`.
    ///
    /// # Panics
    /// When there are fewer: callers check [`Input::len`].
    pub(crate) fn copy_to(&mut self, target: &mut [u8]) {
        let mut filled = 0;
        for chunk in self.take(target.len()) {
            target[filled..filled + chunk.len()].copy_from_slice(&chunk);
            filled += chunk.len();
        }
    }

    /// The first `N` bytes, left in place; `None` when there are fewer.
    pub(crate) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        let front = self.chunks.front()?;
        if let Some(head) = front.first_chunk::<N>() {
            return Some(*head);
        }
        if self.len < N {
            return None;
        }
        let mut copy = [0; N];
        let mut filled = 0;
        for chunk in &self.chunks {
            let part = chunk.len().min(N - filled);
            copy[filled..filled + part].copy_from_slice(&chunk[..part]);
            filled += part;
            if filled == N {
                break;
            }
        }
        Some(copy)
    }

    /// Takes exactly `len` bytes off the front.
    ///
    /// # Panics
    /// When there are fewer: callers check [`Input::len`].
    pub(crate) fn take(&mut self, len: usize) -> Vec<Bytes> {
        assert!(len <= self.len, "takes {len} bytes of {}", self.len);
        let mut taken = Vec::with_capacity(1);
        let mut missing = len;
        while missing > 0 {
            let front = self.chunks.front_mut().expect("its length was checked");
            if front.len() > missing {
                taken.push(front.split_to(missing));
                break;
            }
            missing -= front.len();
            taken.extend(self.chunks.pop_front());
        }
        self.len -= len;
        taken
    }

    /// Drops up to `len` bytes off the front and says how many.
    pub(crate) fn skip(&mut self, len: usize) -> usize {
        let skipped = len.min(self.len);
        let mut missing = skipped;
        while missing > 0 {
            let front = self.chunks.front_mut().expect("its length was checked");
            let part = front.len().min(missing);
            let _ = front.split_to(part);
            missing -= part;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.len -= skipped;
        skipped
    }

    /// Takes `len` bytes as one slice of memory.
    pub(crate) fn take_contiguous(&mut self, len: usize) -> Bytes {
        let mut parts = self.take(len);
        match parts.len() {
            0 => Bytes::new(),
            1 => parts.swap_remove(0),
            _ => parts.concat().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(chunks: &[&'static [u8]]) -> Input {
        let mut input = Input::default();
        for chunk in chunks {
            input.push(Bytes::from_static(chunk));
        }
        input
    }

    #[test]
    fn taking_keeps_chunks_and_order() {
        let mut input = input(&[b"abc", b"", b"d", b"efgh"]);
        assert_eq!(input.peek::<5>(), Some(*b"abcde"));
        assert_eq!(input.peek::<9>(), None);
        assert_eq!(input.take(2), [&b"ab"[..]]);
        assert_eq!(input.take(4), [&b"c"[..], b"d", b"ef"]);
        assert_eq!((input.skip(1), input.len()), (1, 1));
        assert_eq!((input.skip(9), input.len()), (1, 0));
        assert!(input.take(0).is_empty());
    }

    #[test]
    fn contiguous_bytes_are_joined_across_chunks() {
        let mut input = input(&[b"abc", b"def"]);
        assert_eq!(&input.take_contiguous(2)[..], b"ab");
        assert_eq!(&input.take_contiguous(3)[..], b"cde");
        assert_eq!(&input.take_contiguous(0)[..], b"");
    }
}
