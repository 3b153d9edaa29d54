//! The container runtime: asked by NRI before it makes a container, and the bundles that it writes.

pub mod bundle;
pub mod nri;
