//! What needs no guest.

use crate::{
    build::{self, Built},
    command::say,
    image, page,
};
use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    env, fs,
    io::Write,
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Starts of an agent on this machine itself.
const STARTS: usize = 21;

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

/// From the start of an agent without containers until it is ready, on this machine
/// itself, milliseconds: it looks for them in an empty directory.
pub fn alone(built: &Built) -> Result<Value> {
    let nothing = env::temp_dir().join("herder-bench-no-cgroups");
    fs::create_dir_all(&nothing)?;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut agent = Command::new(&built.agent)
            .args(["run", "--kubernetes", "off", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--cgroup-root")
            .arg(&nothing)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("the agent does not run here")?;
        while !page::ready(port) {
            if let Some(status) = agent.try_wait()? {
                bail!("the agent ended by itself ({status}); it has to be started as root");
            }
            thread::sleep(Duration::from_millis(1));
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        agent.kill()?;
        agent.wait()?;
    }
    times.sort_by(f64::total_cmp);
    let [least, median, most] = [0, times.len() / 2, times.len() - 1].map(|place| times[place]);
    Ok(json!({
        "program": "herder alone, on the machine itself", "starts": STARTS,
        "ready": {"least": least, "median": median, "most": most},
    }))
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
