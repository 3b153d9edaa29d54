//! What needs no guest.

use crate::{
    build::{self, Built},
    command::say,
    image,
};
use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    time::Instant,
};

/// A scrape of 10,000 series, by a program of herder-agent's.
pub fn scrape() -> Result<Value> {
    say("Building herder-agent's benchmark …");
    let output = build::bench("scrape").stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the benchmark failed: {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with('{')).context("it found nothing")?;
    serde_json::from_str(line).context("what it found cannot be read")
}

/// What the agent's check takes on this machine itself, milliseconds: the least of some.
/// Most of it is the kernel's BTF, as it is of the agent's start.
pub fn check(built: &Built) -> Result<Value> {
    let mut least = f64::INFINITY;
    for _ in 0..20 {
        let began = Instant::now();
        let mut check = Command::new(&built.agent);
        check.arg("check").stdout(Stdio::null()).stderr(Stdio::null());
        check.status().context("the agent does not run here")?;
        least = least.min(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(json!({"program": "check, on the machine itself", "least": least}))
}

/// Bytes of the image's archive and of the program.
pub fn sizes(built: &Built) -> Result<Value> {
    let archive = image::agent(&image::Args::plain())?;
    let program = fs::read(&built.agent).context("cannot read the agent")?;
    let mut compressed = GzEncoder::new(Vec::new(), Compression::best());
    compressed.write_all(&program)?;
    Ok(json!({
        "image": archive, "program": program.len(),
        "program compressed": compressed.finish()?.len(),
    }))
}
