//! Herder's eBPF programs: they see every OOM kill, and every cgroup that is
//! made or removed.
//!
//! Rules of this crate: work per event is bounded and small, and nothing that
//! runs for processes which are not OOM victims does more than one hash lookup
//! (five where victims may be described at their exit: without BTF, or where the
//! tracepoint gives a thread id), and what runs for every signal does none. What cannot be handed over is counted in
//! `LOSSES`. `match-proto` lines name the kernel prototypes that a program
//! relies on, with the versions they were read in.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "eBPF programs read kernel memory through helpers")]

mod cgroup;
mod decision;
mod exit;
mod kernel;
mod lineage;
mod maps;
mod object;
mod untraced;
mod victim;
mod walk;
