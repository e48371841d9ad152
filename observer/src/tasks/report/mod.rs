//! The report of `observer tasks`.
//!
//! Owns: the report's model, how it is built, and its text form. In: a
//! [`Snapshot`](super::snapshot::Snapshot) of sources and interfaces. Out: a [`Report`], which
//! serialises to JSON and displays as tables.

mod build;
mod fields;
mod missing;
mod model;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use model::Report;
