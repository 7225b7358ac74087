//! From a parsed statement to an answer: plan, scan, execute, encode. Pure but for what it reads through [`scan`].

pub mod scan;
pub mod sources;
