//! The tests, a file for each subject. What several of them need is in the harness.

pub mod addresses;
pub mod clients;
pub mod constraints;
pub mod counts;
pub mod creations;
pub mod crowds;
pub mod crun;
pub mod dying_children;
pub mod enforcement;
pub mod faults;
pub mod fight;
pub mod footprint;
pub mod kills;
pub mod limits;
pub mod marks;
pub mod nodes;
pub mod pod_events;
pub mod pod_faults;
pub mod pod_names;
pub mod pods;
pub mod protected_inits;
pub mod robustness;
pub mod sandboxes;
pub mod unseen;
pub mod victims;
