//! The agent's page in a real browser: a real agent in a VM, its port forwarded, a proxy that
//! serves it below a path, and Chromium, which must show a kill that happens while it looks.

pub mod browser;
mod proxy;

use crate::{
    build::{self, Built},
    command::{output, say},
    debian,
    demo::free_port,
    kernel::{self, Kernel, Series},
    vm::Vm,
};
use anyhow::{Context, Result, bail};
use browser::{Browser, Screen};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread::{self, sleep},
    time::{Duration, Instant},
};

/// How long the guest shows its kills. The browser takes some seconds of it on an
/// idle machine.
const SECONDS: u32 = 90;

/// How long anything may take that happens every second.
const PATIENCE: Duration = Duration::from_secs(60);

/// As people look at it.
const SCREENS: [(&str, Screen); 3] = [
    ("page-light", Screen { width: 1100, height: 900, phone: false, dark: false }),
    ("page-dark", Screen { width: 1100, height: 900, phone: false, dark: true }),
    ("page-phone", Screen { width: 390, height: 844, phone: true, dark: false }),
];

/// Holds the first list of kills back until two more have come, so that they come
/// while the page loads.
const SLOW_LIST: &str = "
    {
        const fetch = window.fetch;
        const newest = async () => (await (await fetch('api/v1/kills?limit=1')).json())[0]?.id ?? 0;
        const pause = (time) => new Promise((done) => setTimeout(done, time));
        window.fetch = async (path) => {
            const answer = await fetch(path);
            if (path !== 'api/v1/kills' || window.listed !== undefined) return answer;
            const [last] = await answer.clone().json();
            while (await newest() < (last?.id ?? 0) + 2) await pause(100);
            await pause(500);
            window.listed = last?.id ?? 0;
            return answer;
        };
    }
";

/// Each kill once, and the two that came meanwhile too.
const NONE_DROPPED: &str = "(() => {
    const shown = [...document.querySelectorAll('#kills li')].map((kill) => Number(kill.dataset.id));
    return [1, 2].every((next) => shown.includes(window.listed + next))
        && shown.every((id, at) => id === shown[0] - at);
})()";

#[derive(clap::Args)]
pub struct Args {
    /// The kernel.
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
}

pub fn run(args: &Args) -> Result<()> {
    debian::need("qemu-system-x86_64", "qemu-system-x86")?;
    check(
        &kernel::get(args.kernel)?,
        &build::for_vm(build::Architecture::Amd64, &build::Args::default())?,
    )
}

/// Boots, looks, and fails if the page is not as it should be.
pub fn check(kernel: &Kernel, built: &Built) -> Result<()> {
    debian::need("chromium", "chromium")?;
    let port = free_port()?;
    let vm = Vm {
        kernel,
        built,
        root: None,
        images: Vec::new(),
        parameters: vec![("mode", "show".into()), ("seconds", SECONDS.to_string())],
        memory: 1024,
        timeout: Duration::from_secs(u64::from(SECONDS) + 300),
        forward: Some(port),
        counting: false,
        verbose: false,
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let guest = scope.spawn(|| vm.boot(&mut |line| say(line)));
        let looked = look(port);
        let guest = guest.join().map_err(|_| anyhow::anyhow!("the guest's thread panicked"))?;
        looked?;
        if guest?.failed > 0 {
            bail!("the guest failed");
        }
        say(&format!("the page is as it should be ({:.0} s)", began.elapsed().as_secs_f64()));
        Ok(())
    })
}

fn look(port: u16) -> Result<()> {
    wait("the agent is ready", || Ok(ready(port)))?;
    let url = proxy::serve(port)?;
    let mut browser = Browser::start()?;
    browser.before_each_page(SLOW_LIST)?;
    browser.open(&url)?;
    let is = |browser: &mut Browser, what: &str, script: &str| {
        wait(what, || Ok(browser.evaluate(script)? == true))
    };
    let live = "document.getElementById('state')?.textContent === 'live'";
    is(&mut browser, "the page is live", live)?;
    is(&mut browser, "no kill is dropped while the page loads", NONE_DROPPED)?;
    // Gone if the page is loaded anew.
    browser.evaluate("window.untouched = true")?;
    let appeared = "window.untouched === true && document.querySelector('#kills li.new') !== null";
    is(&mut browser, "a kill appears without a reload", appeared)?;
    let named = "[...document.querySelectorAll('#kills li')].some((kill) => kill.textContent.includes('<img src=x>'))";
    is(&mut browser, "a victim's name is shown as it is", named)?;
    let steered = "[...document.querySelectorAll('#containers tr')].some((row) => \
        row.textContent.includes('shop/web-0 (worker)') && row.textContent.includes('0 (single process)'))";
    is(&mut browser, "a container is shown with its value", steered)?;
    let lived = "[...document.querySelectorAll('#kills li.good')].some((kill) => \
        kill.textContent.includes('the container lives on'))";
    is(&mut browser, "it is said what became of a container", lived)?;
    // What was used is asked for when a kill is opened, and stays when the kill changes.
    browser.evaluate("document.querySelector('#kills li details').open = true")?;
    let explained = "[...document.querySelectorAll('#kills details[open]')].some((scene) => \
        scene.querySelector('.finding')?.textContent.endsWith('.') && scene.textContent.includes(', killed'))";
    is(&mut browser, "an opened kill says who used how much", explained)?;
    if browser.evaluate("document.querySelector('main img, main script') === null")? != true {
        bail!("a victim's name became markup");
    }
    for (name, screen) in &SCREENS {
        browser.screen(screen)?;
        let fits = "document.documentElement.scrollWidth <= window.innerWidth";
        is(&mut browser, "the page is as wide as the screen", fits)?;
        let path = output()?.join(format!("{name}.png"));
        std::fs::write(&path, browser.screenshot()?)?;
        say(&format!("{}", path.display()));
    }
    let direct = format!("http://127.0.0.1:{port}/");
    browser.open(&direct)?;
    is(&mut browser, "the page is live without a proxy too", live)?;
    let complaints = browser.complaints();
    if !complaints.is_empty() {
        bail!("the browser complains:\n{}", complaints.join("\n"));
    }
    let mut elsewhere = browser.requests();
    elsewhere.retain(|asked| !asked.starts_with(&url) && !asked.starts_with(&direct));
    if !elsewhere.is_empty() {
        bail!("the page asks elsewhere: {}", elsewhere.join(", "));
    }
    Ok(())
}

/// Until something has happened.
pub fn wait(what: &str, mut happened: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !happened().with_context(|| what.to_owned())? {
        if Instant::now() > deadline {
            bail!("not after {PATIENCE:?}: {what}");
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Whether an agent on this machine says that it is ready.
pub(crate) fn ready(port: u16) -> bool {
    let ask = || -> Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.0 200"))
    };
    ask().unwrap_or(false)
}
