//! The kernel's random numbers, fetched 64 at a time.

use rustix::rand::{GetRandomFlags, getrandom};
use std::cell::RefCell;
use world::Rng;

const BATCH: usize = 64;

/// Random numbers of one shard: one system call per 64 numbers.
#[derive(Default)]
pub(crate) struct KernelRng {
    unused: RefCell<Vec<u64>>,
}

impl Rng for KernelRng {
    fn next_u64(&self) -> u64 {
        let mut unused = self.unused.borrow_mut();
        if let Some(number) = unused.pop() {
            return number;
        }
        let mut bytes = [0u8; BATCH * 8];
        let mut filled = 0;
        while filled < bytes.len() {
            match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel gives no random numbers: {error}"),
            }
        }
        let numbers = bytes.as_chunks::<8>().0.iter();
        unused.extend(numbers.map(|chunk| u64::from_ne_bytes(*chunk)));
        unused.pop().expect("just filled")
    }
}
