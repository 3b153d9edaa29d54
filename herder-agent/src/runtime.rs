//! The container runtime: NRI, by which it asks before it creates a container, and its bundles.

pub mod bundle;
pub mod nri;
pub mod roles;
