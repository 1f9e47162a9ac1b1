//! What the repository says of itself: pages and code agree, samples are valid, files are small and know their place.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

mod pages;
mod panels;
mod rust;

mod alerts;
mod check_config;
mod docs;
mod files;
mod purity;
mod records;
