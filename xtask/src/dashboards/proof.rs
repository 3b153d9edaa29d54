//! Every expression of the dashboard and of the rules, run by real Prometheuses on
//! what real agents exposed.
//!
//! A small server plays the agents: each scrape gets the next recorded exposition,
//! so that counters grow as they did. A third agent does not answer. An expression
//! that finds nothing there fails, alerts too: the recorded nodes have every trouble, and
//! what no agent was recorded with is added to one of them.
//!
//! Two jobs scrape the agents, and a second cluster has the same ones, which one job
//! scrapes: each panel has to show the same of both.

use super::{
    grafana,
    prometheus::{self, Prometheus},
    record,
    source::{self, directory},
};
use crate::command::{asked, output, say};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread::{self, sleep},
    time::{Duration, Instant, SystemTime},
};

/// How long rules may take to have been evaluated after the last exposition.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the proof scrapes.
const SECOND: Duration = Duration::from_secs(1);

const ANNOTATION: &str = "annotation";

/// The second cluster.
const GREEN: &str = "green";

/// How much more or less a panel may show of the same agents: no two are scraped at the
/// same moment. Who counts one twice shows twice as much.
const SAME: f64 = 1.4;

/// Who scrapes the recorded agents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scraped {
    /// One job.
    Once,
    /// Two jobs, and once more in a second cluster.
    ByMany,
}

/// What is added to the exposition of an agent: a rejected certificate and refused programs, which
/// no recorded agent had, a kill as a Prometheus without `honorLabels` has it, and what
/// kube-state-metrics says of a DaemonSet with a pod that is not ready.
const ADDED: (&str, &str) = (
    "node-2",
    "herder_web_config_last_reload_successful 0\n\
     herder_ebpf_refused 1\n\
     herder_oom_kills_total{namespace=\"herder-system\",pod=\"herder-agent-x\",container=\"agent\",\
     exported_namespace=\"shop\",kind=\"subprocess\",limit=\"container\"} 1\n\
     kube_daemonset_status_desired_number_scheduled{daemonset=\"herder-agent\"} 3\n\
     kube_daemonset_status_updated_number_scheduled{daemonset=\"herder-agent\"} 3\n\
     kube_daemonset_status_number_ready{daemonset=\"herder-agent\"} 2\n",
);

/// The same expositions over and over, each scrape one further.
type Expositions = Arc<Mutex<BTreeMap<String, (usize, Vec<String>)>>>;

/// An expression as it is written, and where it is from.
pub struct Expression {
    pub from: String,
    pub expr: String,
    pub range: bool,
}

pub fn run() -> Result<()> {
    metrics()?;
    let expressions = expressions()?;
    let mut programs = vec![("debian", prometheus::installed()?)];
    programs.extend(prometheus::newest()?.map(|program| ("sid", program)));
    for (name, program) in programs {
        let began = Instant::now();
        let prometheus = fed(&program, name, SECOND, Scraped::ByMany)?;
        let tried = |one| attempt(&prometheus, one).and_then(|()| same(&prometheus, one));
        let failures: Vec<_> = expressions.iter().filter_map(|one| tried(one).err()).collect();
        for failure in &failures {
            say(&format!("{failure:#}"));
        }
        if !failures.is_empty() {
            bail!("{} expressions fail on Prometheus {}", failures.len(), prometheus.version);
        }
        say(&format!(
            "all {} expressions have data on Prometheus {} ({:.1} s)",
            expressions.len(),
            prometheus.version,
            began.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

/// `promtool check metrics` on the last exposition of each node.
fn metrics() -> Result<()> {
    for (node, takes) in record::nodes()? {
        let path = output()?.join(format!("{node}.prom"));
        let last = takes.last().context("a node without expositions")?;
        // A comment that is neither help nor type is none of promtool's business.
        fs::write(&path, last)?;
        let mut promtool = Command::new("promtool");
        let done = promtool.args(["check", "metrics"]).stdin(File::open(&path)?).output()?;
        if !done.status.success() || !done.stderr.is_empty() {
            bail!("promtool check metrics, {node}: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
    Ok(())
}

/// All of them.
pub fn expressions() -> Result<Vec<Expression>> {
    let text = fs::read_to_string(directory().join("herder.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut all = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            all.push(Expression {
                from: format!("panel {}, query {}", panel["title"], target["refId"]),
                expr: text(&target["expr"]).context("a query without expression")?,
                range: target["range"] == true,
            });
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        let expr = text(&annotation["expr"]).context("an annotation without expression")?;
        all.push(Expression { from: ANNOTATION.into(), expr, range: true });
    }
    for rule in source::rules()?.groups.iter().flat_map(|group| &group.rules) {
        let from = format!("rule {}", rule.name());
        all.push(Expression { from, expr: rule.expr.clone(), range: false });
    }
    Ok(all)
}

/// As Grafana does when everything is selected.
pub fn filled(expr: &str) -> String {
    in_clusters(expr, ".*")
}

/// The same with a selection of clusters.
fn in_clusters(expr: &str, clusters: &str) -> String {
    let times = [("$__rate_interval", "1m"), ("$__range_s", "900"), ("$__range", "15m")];
    let filled = times
        .iter()
        .fold(grafana::spelt_out(expr), |expr, (name, time)| expr.replace(name, time))
        .replace("$cluster", clusters);
    ["$namespace", "$pod", "$node"].iter().fold(filled, |expr, name| expr.replace(name, ".*"))
}

fn attempt(prometheus: &Prometheus, one: &Expression) -> Result<()> {
    if asked_of(prometheus, one, ".*")?.is_empty() {
        bail!("{} finds nothing: {}", one.from, one.expr);
    }
    Ok(())
}

/// Whether a panel shows the same of agents that two jobs scrape as of those that one does.
fn same(prometheus: &Prometheus, one: &Expression) -> Result<()> {
    if !one.expr.contains("$cluster") || one.from == ANNOTATION {
        return Ok(());
    }
    let shown = |clusters| anyhow::Ok(sum(&asked_of(prometheus, one, clusters)?));
    let (twice, once) = (shown("")?, shown(GREEN)?);
    if twice > once * SAME || once > twice * SAME {
        bail!("{} shows {twice} of agents that two jobs scrape, {once} of one's", one.from);
    }
    Ok(())
}

/// Of each series the newest value that is one, all together.
fn sum(series: &[Value]) -> f64 {
    let number =
        |sample: &Value| sample[1].as_str()?.parse::<f64>().ok().filter(|it| it.is_finite());
    let newest = |one: &Value| match one["values"].as_array() {
        Some(values) => values.iter().rev().find_map(number),
        None => number(&one["value"]),
    };
    series.iter().filter_map(newest).sum()
}

fn asked_of(prometheus: &Prometheus, one: &Expression, clusters: &str) -> Result<Vec<Value>> {
    let expr = in_clusters(&one.expr, clusters);
    let samples = if one.range {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        prometheus.query_range(&expr, now - 60, now, 5)
    } else {
        prometheus.query(&expr)
    };
    samples.with_context(|| format!("{}: {expr}", one.from))
}

/// A Prometheus that has scraped everything, at this interval, and evaluated
/// every rule since.
pub fn fed(program: &Path, name: &str, interval: Duration, scraped: Scraped) -> Result<Prometheus> {
    let nodes = record::nodes()?;
    let names: Vec<_> = nodes.keys().cloned().collect();
    let mut takes = BTreeMap::new();
    for (node, mut all) in nodes {
        if node == ADDED.0 {
            all.iter_mut().for_each(|take| *take += ADDED.1);
        }
        if scraped == Scraped::ByMany {
            takes.extend(["again", GREEN].map(|by| (format!("{node}/{by}"), (0, all.clone()))));
        }
        takes.insert(node, (0, all));
    }
    let expositions: Expositions = Arc::new(Mutex::new(takes));
    let agents = play(expositions.clone())?;
    let config = config(agents, &names, interval, scraped)?;
    let prometheus = Prometheus::start(program, name, &config)?;
    let deadline = Instant::now() + PATIENCE + 20 * interval;
    let finished = || {
        expositions.lock().is_ok_and(|all| all.values().all(|(at, takes)| *at > takes.len() + 1))
    };
    while !finished() {
        if Instant::now() > deadline {
            bail!("Prometheus {} did not scrape", prometheus.version);
        }
        sleep(Duration::from_millis(200));
    }
    // Alerts with a `for` are pending by now; the annotation asks for one that fires.
    let firing = r#"ALERTS{alertname="HerderKillsLost", alertstate="firing"}"#;
    let deadline = Instant::now() + PATIENCE;
    while prometheus.query(firing)?.is_empty() {
        if Instant::now() > deadline {
            bail!("HerderKillsLost does not fire on Prometheus {}", prometheus.version);
        }
        sleep(Duration::from_millis(200));
    }
    healthy(&prometheus)?;
    Ok(prometheus)
}

/// Prometheus's own opinion of each rule after evaluating it.
fn healthy(prometheus: &Prometheus) -> Result<()> {
    let rules = prometheus.api("/api/v1/rules")?;
    let groups = rules["groups"].as_array().context("no rules were loaded")?;
    for rule in groups.iter().filter_map(|group| group["rules"].as_array()).flatten() {
        if rule["health"] != "ok" {
            bail!("rule {} is {}: {}", rule["name"], rule["health"], rule["lastError"]);
        }
    }
    Ok(())
}

/// Evaluates each second. Only the groups' own intervals are shortened for that; the rules
/// are as they are.
fn config(
    agents: SocketAddr,
    nodes: &[String],
    interval: Duration,
    scraped: Scraped,
) -> Result<String> {
    let rules = fs::read_to_string(directory().join("alerts.yaml"))?;
    let quick = output()?.join("alerts-quick.yaml");
    let own = ["interval: 30s", "interval: 2m"];
    let quicker = own.iter().fold(rules, |rules, own| rules.replace(own, "interval: 1s"));
    fs::write(&quick, quicker)?;
    asked(Command::new("promtool").args(["check", "rules"]).arg(&quick))
        .context("promtool does not take the quicker rules")?;
    let no_agent = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let seconds = interval.as_secs();
    let mut config = format!(
        "global: {{scrape_interval: {seconds}s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n",
        quick.display()
    );
    let mut job = |name: &str| {
        config +=
            &format!("- job_name: {name}/herder-agent\n  honor_labels: true\n  static_configs:\n");
        // Each is scraped under other names.
        for (by, cluster) in [("", ""), ("/again", ""), ("/green", GREEN)] {
            let is_of_job = (name == "again") == (by == "/again");
            if !is_of_job || (scraped == Scraped::Once && !by.is_empty()) {
                continue;
            }
            let mut target = |address: SocketAddr, node: &str| {
                config += &format!(
                    "  - {{targets: ['{address}'], labels: {{cluster: '{cluster}', node: {node}, instance: {node}{by}, __metrics_path__: /{node}{by}}}}}\n"
                );
            };
            target(no_agent, "node-3");
            nodes.iter().for_each(|node| target(agents, node));
        }
    };
    job("herder-system");
    if scraped == Scraped::ByMany {
        job("again");
    }
    Ok(config)
}

/// Serves the expositions at /NODE.
fn play(expositions: Expositions) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let expositions = expositions.clone();
            // A client that goes away is no failure.
            thread::spawn(move || drop(answer(stream, &expositions)));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, expositions: &Expositions) -> Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    request.read_line(&mut first)?;
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let node = first.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let text = expositions.lock().ok().and_then(|mut all| {
        let (at, takes) = all.get_mut(&node)?;
        let text = takes.get(*at).or(takes.last()).cloned();
        *at += 1;
        text
    });
    let text = text.context("no such node")?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}
