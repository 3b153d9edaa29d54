//! Chromium without a window, controlled over a pair of pipes (its DevTools
//! protocol, `--remote-debugging-pipe`): no driver and no WebSocket is needed.

use crate::command::{made, output, run, tied};
use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

/// How long Chromium may take for one command.
const ANSWER: Duration = Duration::from_secs(60);

pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub phone: bool,
    pub dark: bool,
}

/// A browser with one tab, stopped when dropped.
pub struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    events: Vec<Value>,
}

impl Browser {
    pub fn start() -> Result<Self> {
        let directory = output()?.join("browser");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        let directory = made(directory)?;
        let [commands, answers] = ["commands", "answers"].map(|name| directory.join(name));
        run(Command::new("mkfifo").arg(&commands).arg(&answers))?;
        // A shell, because it can hand over descriptors 3 and 4. Everything that
        // Chromium would fetch for itself is off.
        let child = tied("sh")
            .args(["-c", r#"exec chromium "$@" 3<commands 4>answers"#, "sh"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--user-data-dir=profile", "about:blank"])
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("log"))?)
            .spawn()
            .context("cannot start chromium")?;
        // Each waits for its other end, in the shell's order.
        let commands = File::options().write(true).open(commands)?;
        let answers = BufReader::new(File::open(answers)?);
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or(Value::Null);
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Browser { child, commands, messages, session: None, last: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", &json!({"url": url}))?;
        match opened["errorText"].as_str() {
            Some(error) => bail!("cannot open {url}: {error}"),
            None => Ok(()),
        }
    }

    /// Runs a script in each page that is opened from now on, before its own.
    pub fn before_each_page(&mut self, script: &str) -> Result<()> {
        self.call("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script})).map(drop)
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, script: &str) -> Result<Value> {
        let asked = json!({"expression": script, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", &asked)?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{script}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].take())
    }

    pub fn screen(&mut self, screen: &Screen) -> Result<()> {
        let Screen { width, height, phone, dark } = *screen;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}),
        )?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features})).map(drop)
    }

    /// What is on the screen, as PNG.
    pub fn screenshot(&mut self) -> Result<Vec<u8>> {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = shot["data"].as_str().context("chromium gave no picture")?;
        BASE64_STANDARD.decode(data).context("chromium's picture is no base64")
    }

    /// Errors on the page's console so far: of scripts, of the policy, of requests.
    pub fn complaints(&self) -> Vec<String> {
        let wrong = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        self.events.iter().filter(wrong).map(|event| event["params"].to_string()).collect()
    }

    /// The addresses that the page asked for.
    pub fn requests(&self) -> Vec<String> {
        let asked = |event: &&Value| event["method"] == "Network.requestWillBeSent";
        let address = |event: &Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        self.events.iter().filter(asked).filter_map(address).collect()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(message.to_string().as_bytes())?;
        self.commands.write_all(&[0])?;
        loop {
            let message = self.messages.recv_timeout(ANSWER);
            let mut message =
                message.with_context(|| format!("chromium does not answer {method}"))?;
            if message["id"] == self.last {
                if message.get("error").is_some() {
                    bail!("chromium refuses {method}: {}", message["error"]);
                }
                return Ok(message["result"].take());
            }
            self.events.push(message);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
