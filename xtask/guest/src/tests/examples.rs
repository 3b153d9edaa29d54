//! The examples of docs/examples, as a pod runs them: real Python, and a real gunicorn.

use super::own_kills::{FLAGS, addresses, at};
use crate::harness::{
    agent::Agent,
    api::Api,
    container::Container,
    http::ask,
    pod::{ID, agent, cgroup, pod},
    test::{Test, tests},
    wait::within,
};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};

pub const TESTS: &[Test] = tests![
    own_kills_reported_by_a_supervisor,
    own_kills_reported_by_gunicorn,
    own_kills_reported_by_a_sandbox,
    own_kills_of_another_container,
    own_kills_without_an_agent
];

/// How long a program in Python may take, whose interpreter takes seconds to start.
const PYTHON: Duration = Duration::from_secs(120);

const PLACE: &str = "/tmp/examples";

const EXAMPLES: [(&str, &str); 4] = [
    ("own_kills.py", include_str!("../../../../docs/examples/own_kills.py")),
    ("supervisor.py", include_str!("../../../../docs/examples/supervisor.py")),
    ("gunicorn_conf.py", include_str!("../../../../docs/examples/gunicorn_conf.py")),
    ("sandbox.py", include_str!("../../../../docs/examples/sandbox.py")),
];

/// Python that takes memory after the rule is in force.
const HOG: &str = "import time; time.sleep(2); x = b'x' * (400 << 20); time.sleep(60)";

const OUTPUT: &str = "/tmp/output";

/// What a container printed.
fn output() -> String {
    fs::read_to_string(OUTPUT).unwrap_or_default()
}

/// A pod, the agent of its node, and the examples in a file system that it sees.
fn node() -> (Api, Agent) {
    addresses();
    fs::create_dir_all(PLACE).unwrap();
    for (name, text) in EXAMPLES {
        fs::write(Path::new(PLACE).join(name), text).unwrap();
    }
    let api = Api::start(&at(pod(1, Some(ID), None), "192.168.11.1"));
    (api, agent(&FLAGS))
}

/// The pod's container, whose init is this Python.
fn python(mebibytes: u32, arguments: &[&str]) -> Container {
    python_in("worker", mebibytes, arguments)
}

/// The same, which takes itself for the container of this name.
fn python_in(container: &str, mebibytes: u32, arguments: &[&str]) -> Container {
    let _ = fs::remove_file(OUTPUT);
    let path = format!("PYTHONPATH={PLACE}");
    let container = format!("HERDER_CONTAINER={container}");
    let program = [
        "program",
        "HERDER_URL=http://192.168.11.1:9470",
        &container,
        "PATH=/usr/bin",
        "PYTHONDONTWRITEBYTECODE=1",
        &path,
        "/usr/bin/python3",
    ];
    Container::start_program(&cgroup(), mebibytes, &[&program[..], arguments].concat())
}

fn own_kills_reported_by_a_supervisor() {
    let (_api, agent) = node();
    let mut container =
        python(150, &["/tmp/examples/supervisor.py", "/usr/bin/python3", "-c", HOG]);
    within(PYTHON, "the supervisor has ended", || container.ended());
    let said = output();
    assert!(
        said.starts_with("your job ran out of memory (1") && said.ends_with(" MiB of 150)\n"),
        "{said}"
    );
    let kill = agent.wait_for_kills(1).remove(0);
    assert_eq!(kill["kind"], "subprocess");
}

/// The worker is killed, the master starts another and says why.
fn own_kills_reported_by_gunicorn() {
    let (_api, agent) = node();
    let app = "def app(environ, start):\n    \
        if environ['PATH_INFO'] == '/grow':\n        b'x' * (400 << 20)\n    \
        start('200 OK', [('Content-Type', 'text/plain')])\n    return [b'hello\\n']\n";
    fs::write(Path::new(PLACE).join("app.py"), app).unwrap();
    let gunicorn = [
        "-m",
        "gunicorn",
        "-c",
        "/tmp/examples/gunicorn_conf.py",
        "--bind",
        "127.0.0.1:8000",
        "app:app",
    ];
    let container = python(150, &gunicorn);
    let answers = || ask("127.0.0.1:8000", "/").is_some_and(|(status, _)| status == 200);
    within(PYTHON, "gunicorn answers", answers);
    within(PYTHON, "the rule holds", || container.cgroup.oom_group() == "0");
    assert_eq!(ask("127.0.0.1:8000", "/grow"), None, "its worker is killed");
    within(PYTHON, "the master says why", || output().contains("ran out of memory ("));
    within(PYTHON, "another worker answers", answers);
    assert!(output().contains(" MiB of 150)."), "{}", output());
    assert_eq!(agent.wait_for_kills(1)[0]["kind"], "subprocess");
}

/// One tool dies; those before and after it are answered.
fn own_kills_reported_by_a_sandbox() {
    let (_api, agent) = node();
    let calls = [
        serde_json::json!(["/usr/bin/python3", "-c", "print('first')"]),
        serde_json::json!(["/usr/bin/python3", "-c", HOG]),
        serde_json::json!(["/usr/bin/python3", "-c", "print('third'); raise SystemExit(3)"]),
    ];
    let calls: String = calls.iter().map(|call| format!("{call}\n")).collect();
    fs::write("/tmp/calls", calls).unwrap();
    let harness = "import runpy, sys; sys.stdin = open('/tmp/calls'); runpy.run_path('/tmp/examples/sandbox.py', run_name='__main__')";
    let mut container = python(150, &["-c", harness]);
    within(PYTHON, "the harness has done its work", || container.ended());
    let answers: Vec<Value> =
        output().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 3, "{}", output());
    assert_eq!((&answers[0]["ok"], &answers[0]["output"]), (&true.into(), &"first\n".into()));
    let error = answers[1]["error"].as_str().unwrap();
    assert!(
        error.starts_with("The tool ran out of memory (1") && error.contains(" MiB of 150)"),
        "{error}"
    );
    assert_eq!(
        (&answers[2]["output"], &answers[2]["error"]),
        (&"third\n".into(), &"The tool ended with exit code 3.".into())
    );
    assert_eq!(agent.wait_for_kills(1)[0]["kind"], "subprocess");
}

/// Its process ids are another container's, too.
fn own_kills_of_another_container() {
    let (_api, agent) = node();
    let job = ["/tmp/examples/supervisor.py", "/usr/bin/python3", "-c", HOG];
    let mut container = python_in("sidecar", 150, &job);
    within(PYTHON, "the supervisor has ended", || container.ended());
    assert_eq!(output(), "your job failed: exit code -9\n");
    assert_eq!(agent.wait_for_kills(1)[0]["container"], "worker");
}

/// They lose nothing but the reason.
fn own_kills_without_an_agent() {
    let (_api, agent) = node();
    let mut container =
        python(150, &["/tmp/examples/supervisor.py", "/usr/bin/python3", "-c", HOG]);
    within(PYTHON, "the rule holds", || container.cgroup.oom_group() == "0");
    drop(agent);
    within(PYTHON, "the supervisor has ended", || container.ended());
    assert_eq!(output(), "your job failed: exit code -9\n");
}
