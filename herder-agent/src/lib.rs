//! Herder.
