//! Catalog: see kv.rs
pub mod kv;
