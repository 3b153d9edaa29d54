//! What a program prints, and when each line could be read at the other end.

use crate::harness::wait::monotonic;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::{
    fs::File,
    io::Read,
    mem::take,
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

/// A line, and when its end was read.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: u64,
    pub text: String,
}

/// All lines so far of something that a thread of its own reads.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<Line>>>);

impl Lines {
    pub fn of(mut from: impl Read + Send + 'static) -> Self {
        let lines = Lines::default();
        let kept = lines.clone();
        thread::spawn(move || {
            let (mut buffer, mut rest) = (vec![0u8; 64 * 1024], Vec::new());
            // A terminal without a writer is an error, a pipe ends.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let at = monotonic();
                for byte in &buffer[..length] {
                    if *byte == b'\n' {
                        let text = String::from_utf8_lossy(&take(&mut rest)).into_owned();
                        kept.0.lock().unwrap().push(Line { at, text });
                    } else {
                        rest.push(*byte);
                    }
                }
            }
        });
        lines
    }

    pub fn all(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }
}

/// A terminal: what a program has that a user watches. Its C library then writes
/// line by line, and into a pipe only when 4 KiB are full.
pub fn terminal() -> (Stdio, Lines) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(name).unwrap();
    (slave.into(), Lines::of(File::from(master)))
}
