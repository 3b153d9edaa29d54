//! What a guest with real runtimes finds in `/images`: the tests and the agent as images, and the
//! agent's pod as `deploy/` has it, so that the guest can do for it what a kubelet would.

use crate::{build::Built, image, render::Kubectl};
use anyhow::{Context, Result};
use std::sync::{Mutex, PoisonError};

/// Each grants something that the base does not, and is tried with a real runtime.
const COMPONENTS: [&str; 1] = ["protect-init"];

/// Names and contents.
pub fn all(built: &Built) -> Result<Vec<(&'static str, Vec<u8>)>> {
    Ok(vec![
        ("guest.tar", image::guest(&built.guest)?),
        ("agent.tar", image::of_agent(&built.agent)?),
        ("daemon-set.json", daemon_set()?),
    ])
}

/// Rendered once, because machines that boot at once would write the same overlay at once.
fn daemon_set() -> Result<Vec<u8>> {
    static RENDERED: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let mut rendered = RENDERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = &*rendered {
        return Ok(bytes.clone());
    }
    let objects = Kubectl::get()?.render(&COMPONENTS.map(str::to_owned))?;
    let found = objects.iter().find(|object| object["kind"] == "DaemonSet");
    let bytes = serde_json::to_vec(found.context("deploy/ has no DaemonSet")?)?;
    Ok(rendered.insert(bytes).clone())
}
