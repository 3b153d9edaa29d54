//! What stands around the answers: credentials, files of the kubeconfig, a reader that leaves, and
//! very many agents.

use super::*;
use std::{env, path::Path};

/// A program that gets credentials may ask a person to log in.
#[test]
fn a_slow_program_of_the_kubeconfig_takes_none_of_the_time() {
    let cluster = Cluster::start(streaming);
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&cluster.0).unwrap()).unwrap();
    let credentials = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"x"}}"#;
    config["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "IfAvailable",
        "command": "sh", "args": ["-c", format!("sleep 2.1; echo '{credentials}'")],
    }});
    fs::write(&cluster.0, config.to_string()).unwrap();
    let (code, stdout, stderr) = cluster.run(&["kills", "-o", "json", "--timeout", "2"]);
    assert_eq!((code, stdout.lines().count()), (0, 1), "{stderr}");
}

/// `kubectl herder kills | head` says what is missing, too.
#[test]
fn a_reader_that_leaves_hides_no_agent_that_did_not_answer() {
    let cluster = Cluster::start(of_many_kinds);
    for task in ["kills", "containers", "top"] {
        let mut command = cluster.command(&[task, "-A", "--timeout", "2", "--context", "shop"]);
        let mut left = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(left.stdout.take());
        let output = left.wait_with_output().unwrap();
        names_all_faults(&String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(3), "{task}");
    }
}

/// kubectl passes over them, too.
#[test]
fn files_of_the_kubeconfig_that_are_not_there_are_passed_over() {
    let cluster = Cluster::start(streaming);
    let files = env::join_paths([Path::new("/nowhere"), &cluster.0]).unwrap();
    let mut command = cluster.command(&["kills", "--context", "shop"]);
    let output = command.env("KUBECONFIG", files).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = command.env("KUBECONFIG", "/nowhere").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere"), "{output:?}");
}

/// More agents than are asked at once, of which none answers.
fn silent(path: &str, stream: &mut TcpStream) {
    if path.contains("/pods?") {
        let pods: Vec<_> =
            (0..70).map(|number| pod(&format!("agent-{number}"), "Running", "DaemonSet")).collect();
        return send_json(stream, &list(&pods));
    }
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn an_agent_that_was_not_asked_in_time_is_not_called_slow() {
    let cluster = Cluster::start(silent);
    let (code, _, stderr) = cluster.run(&["kills", "--timeout", "2"]);
    assert_eq!(code, 1, "{stderr}");
    let agents_with = |why: &str| {
        let line = stderr.lines().find(|line| line.contains(why)).unwrap_or_default();
        line.matches("node-").count()
    };
    assert_eq!((agents_with("no answer in time"), agents_with("not asked before")), (64, 6));
}
