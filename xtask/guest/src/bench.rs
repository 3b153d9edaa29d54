//! What `cargo xtask bench` measures: Herder and the programs that do a part of the
//! same, side by side in one guest, as Debian ships them.
//!
//! Each measure is a process of its own, as the tests are, and gives its figures
//! as a line of JSON, which the host keeps. Nothing here fails because of a figure.

mod busy;
mod candidates;
mod counted;
pub mod crowd;
mod events;
mod figures;
pub mod forking;
mod idle;
mod lines;
pub mod memory;
mod overhead;
mod process;
mod programs;
mod protect_init;
mod ready;
mod runs;
pub mod seen;
pub mod shown;
pub mod soak;
mod starts;
mod victim_arguments;

/// The measures by their names.
const MEASURES: &[(&str, fn())] = &[
    ("memory", memory::memory),
    ("shown", shown::shown),
    ("seen", seen::seen),
    ("starts", starts::starts),
    ("busy", busy::busy),
    ("ready", ready::ready),
    ("idle", idle::idle),
    ("overhead", overhead::overhead),
    ("protect-init", protect_init::protect_init),
    ("victim-arguments", victim_arguments::victim_arguments),
    ("candidates", candidates::candidates),
    ("events", events::events),
    ("soak", soak::soak),
];

/// Runs the measure of this name.
pub fn run(name: &str) {
    let (_, measure) = MEASURES.iter().find(|(known, _)| *known == name).expect("a measure");
    measure();
}
