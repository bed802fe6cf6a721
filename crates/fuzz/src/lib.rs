//! Fuzz targets with a corpus: what a decoder has to bear, played in every run of the tests.
//!
//! ```text
//! crates/CRATE/corpus/TARGET/NAME    one input, as the decoder gets it
//! ```
//! A [`Target`] is used by one test, named `fuzz_*`. [`Target::sample`] ties a file to the value that an encoder makes it from:
//! what is committed must decode to that value ever after. [`Target::play`] gives every file to the decoder, then changed
//! ones (`mutate.rs`) until rounds or time are up. A decoder must answer any bytes with a value or an error.
//!
//! What counts as a finding
//! - a panic, of the decoder or of what the test asserts about its value;
//! - more than [`ADDRESS_SPACE_BYTES_MAX`] of address space taken for one input;
//! - more than [`SECONDS_MAX`] for one input.
//!
//! The input of a finding is written into the corpus as `found-HASH`, so that the next run starts with it: mend the decoder and
//! commit the file.
//!
//! | environment | |
//! | --- | --- |
//! | `PROPTEST_CASES` | rounds of changed inputs, 256 unless given; `cargo xtask test` and `fuzz` set it |
//! | `FUZZ_SEED` | plays this seed again. Each input is written to the corpus as `last` before it is played: it stays there when the process dies |
//! | `FUZZ_WRITE` | writes samples that are missing, instead of failing |
//!
//! Only for tests; what it does with files and clocks no core crate does. Proptests beside the targets go on to try what
//! resembles no encoding at all.
#![allow(
    clippy::disallowed_methods,
    reason = "tests read their corpus and bound their time"
)]

mod memory;
mod mutate;
mod random;
mod target;

pub use mutate::INPUT_BYTES_MAX;
pub use random::Random;
pub use target::{ADDRESS_SPACE_BYTES_MAX, SECONDS_MAX, Target};

/// The target of this name, with the corpus of the crate that says so.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::Target::new(env!("CARGO_MANIFEST_DIR"), $name)
    };
}
