//! What a guest with real runtimes finds in `/images`: the tests and the agent as images, and the
//! agent's pod as `deploy/` has it, so that the guest can do for it what a kubelet would.

use crate::{build::Built, image, render::Kubectl};
use anyhow::{Context, Result};
use std::sync::{Mutex, PoisonError};

/// The DaemonSet with each component whose grants or ports are tried with a real runtime.
const DAEMON_SETS: [(&str, &str); 2] =
    [("daemon-set-protect-init.json", "protect-init"), ("daemon-set-self.json", "self")];

/// Name and contents.
type File = (&'static str, Vec<u8>);

/// What a guest finds in /images.
pub fn all(built: &Built) -> Result<Vec<File>> {
    let mut all = vec![
        ("guest.tar", image::guest(&built.guest)?),
        ("agent.tar", image::of_agent(&built.agent)?),
    ];
    all.extend(daemon_sets()?);
    Ok(all)
}

/// Rendered once, because machines that boot at once would write the same overlays at once.
fn daemon_sets() -> Result<Vec<File>> {
    static RENDERED: Mutex<Option<Vec<File>>> = Mutex::new(None);
    let mut rendered = RENDERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(all) = &*rendered {
        return Ok(all.clone());
    }
    let kubectl = Kubectl::get()?;
    let all = DAEMON_SETS.map(|(file, component)| Ok((file, daemon_set(&kubectl, component)?)));
    let all = all.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(rendered.insert(all).clone())
}

fn daemon_set(kubectl: &Kubectl, component: &str) -> Result<Vec<u8>> {
    let objects = kubectl.render(&[component.to_owned()])?;
    let found = objects.iter().find(|object| object["kind"] == "DaemonSet");
    Ok(serde_json::to_vec(found.context("deploy/ has no DaemonSet")?)?)
}
