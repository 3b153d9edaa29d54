//! A real Prometheus that scrapes recorded expositions.

use crate::command::{cache, made, output, say, tied, typed};
use crate::debian::Suite;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A Prometheus, stopped when dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    pub version: String,
}

impl Prometheus {
    /// With this configuration, and nothing in its store.
    pub fn start(program: &Path, name: &str, config: &str) -> Result<Self> {
        let directory = output()?.join(format!("prometheus-{name}"));
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        let directory = made(directory)?;
        let file = directory.join("prometheus.yaml");
        fs::write(&file, config)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(directory.join("log"))?;
        let mut command = tied(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let line = typed(&command);
        let child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let mut prometheus = Prometheus { child, address, version: String::new() };
        let deadline = Instant::now() + START;
        while prometheus.get("/-/ready").is_err() {
            if let Some(status) = prometheus.child.try_wait()? {
                let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
                bail!("`{line}` ended: {status}\n{log}");
            }
            if Instant::now() > deadline {
                bail!("`{line}` is not ready after {START:?}");
            }
            sleep(Duration::from_millis(200));
        }
        let about = prometheus.api("/api/v1/status/buildinfo")?;
        prometheus.version = about["version"].as_str().unwrap_or("unknown").to_owned();
        Ok(prometheus)
    }

    /// The samples of an expression now.
    pub fn query(&self, expr: &str) -> Result<Vec<Value>> {
        self.result(&format!("/api/v1/query?query={}", escaped(expr)))
    }

    /// The samples over time: from and to in seconds since 1970.
    pub fn query_range(&self, expr: &str, from: u64, to: u64, step: u64) -> Result<Vec<Value>> {
        let expr = escaped(expr);
        self.result(&format!("/api/v1/query_range?query={expr}&start={from}&end={to}&step={step}"))
    }

    fn result(&self, path: &str) -> Result<Vec<Value>> {
        let data = self.api(path)?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The data of an answer that is no error.
    pub fn api(&self, path: &str) -> Result<Value> {
        let mut answer: Value = serde_json::from_str(&self.get(path)?)?;
        if answer["status"] != "success" || answer.get("warnings").is_some() {
            bail!("Prometheus says {answer}");
        }
        Ok(answer["data"].take())
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        // HTTP/1.0 has no chunks, and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        if !head.starts_with("HTTP/1.0 200") && !body.starts_with('{') {
            bail!("Prometheus says {head}");
        }
        Ok(body.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For a query string: everything but letters and digits by its number.
fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// The Prometheus of this machine's own suite.
pub fn installed() -> Result<PathBuf> {
    crate::debian::need("prometheus", "prometheus")?;
    Ok(PathBuf::from("prometheus"))
}

/// The newest Prometheus of Debian, unpacked beside the kernels; none if there is
/// none that runs here.
pub fn newest() -> Result<Option<PathBuf>> {
    let directory = cache()?.join("prometheus-sid");
    let program = directory.join("usr/bin/prometheus");
    if !program.exists() {
        let unpacked = made(directory.clone())?;
        let suite = Suite::open("sid", &made(cache()?.join("apt"))?)?;
        let package = suite.download("prometheus", &unpacked)?;
        crate::command::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
        fs::remove_file(package)?;
    }
    let runs = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
    match runs {
        Ok(output) if output.status.success() => Ok(Some(program)),
        other => {
            say(&format!("sid's Prometheus does not run here: {other:?}"));
            Ok(None)
        }
    }
}
