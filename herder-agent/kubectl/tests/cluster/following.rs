//! Where the stream of each agent begins, so that no kill falls between two answers.

use super::*;

/// At first agent-1 is there, and agent-3 answers nothing. Then agent-2 is there too.
fn growing(path: &str, stream: &mut TcpStream) {
    static LISTS: AtomicUsize = AtomicUsize::new(0);
    if path.contains("/pods?") {
        let mut pods = ["agent-1", "agent-3", "agent-2"]
            .map(|name| pod(name, "Running", "DaemonSet"))
            .to_vec();
        if LISTS.fetch_add(1, Relaxed) == 0 {
            pods.pop();
        }
        return send_json(stream, &list(&pods));
    }
    if path.ends_with("/stream") {
        let _ =
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n");
        let _ = write!(stream, "event: kill\nid: 9\ndata: {}\n\n", kill(9, 50, "shop"));
        return thread::sleep(Duration::from_secs(60));
    }
    if path.contains("/agent-3:") && !path.ends_with("?limit=1") {
        return send(stream, "503 Service Unavailable", "text/plain", "not yet");
    }
    send_json(stream, &json!([kill(7, 40, "shop")]));
}

#[test]
fn a_new_agent_is_followed_from_its_first_kill() {
    let cluster = Cluster::start(growing);
    let mut command = cluster.command(&["kills", "--follow", "-o", "json", "--context", "shop"]);
    let mut followed = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(followed.stdout.take().unwrap()).lines();
    // What was before, and what the stream of each has.
    assert_eq!(lines.map(Result::unwrap).take(1 + 3).count(), 4);
    followed.kill().unwrap();
    followed.wait().unwrap();
    let mut begins: Vec<_> =
        cluster.asked().into_iter().filter(|(path, _)| path.ends_with("/stream")).collect();
    begins.sort();
    let begin = |agent: &str, after: &str| {
        let path =
            format!("/api/v1/namespaces/herder-system/pods/{agent}:9469/proxy/api/v1/kills/stream");
        (path, after.to_owned())
    };
    let expected = [begin("agent-1", "7"), begin("agent-2", "0"), begin("agent-3", "7")];
    assert_eq!(begins, expected);
}

/// Through the API server all users have its address, and together so many streams of each agent.
fn full(path: &str, stream: &mut TcpStream) {
    if path.contains("/pods?") {
        let pods = ["agent-1", "agent-2", "agent-3"].map(|name| pod(name, "Running", "DaemonSet"));
        send_json(stream, &list(&pods));
    } else if path.ends_with("/stream") {
        let why = "6 streams of your address are open already\n";
        send(stream, "503 Service Unavailable", "text/plain", why);
    } else {
        send_json(stream, &json!([]));
    }
}

#[test]
fn the_same_reason_of_many_agents_is_one_line() {
    let cluster = Cluster::start(full);
    let mut command = cluster.command(&["kills", "--follow", "--context", "shop"]);
    let mut followed = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(followed.stderr.take().unwrap()).read_line(&mut line).unwrap();
    followed.kill().unwrap();
    followed.wait().unwrap();
    assert!(line.ends_with("6 streams of your address are open already; trying again\n"), "{line}");
    assert!((1..=3).all(|node| line.contains(&format!("node-{node} (agent-{node})"))), "{line}");
}

/// A container survives its first kill and ends after the second one.
fn settling(path: &str, stream: &mut TcpStream) {
    if path.contains("/pods?") {
        return send_json(stream, &list(&[pod("agent-1", "Running", "DaemonSet")]));
    }
    if !path.ends_with("/stream") {
        return send_json(stream, &json!([]));
    }
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    for (event, id, survived) in [
        ("kill", 1, Value::Null),
        ("settled", 1, true.into()),
        ("kill", 2, Value::Null),
        ("settled", 2, false.into()),
    ] {
        let mut kill = kill(id, id, "shop");
        kill["survived"] = survived;
        let _ = write!(stream, "event: {event}\ndata: {kill}\n\n");
    }
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn what_becomes_of_a_container_is_printed_for_programs_and_its_end_for_people() {
    let cluster = Cluster::start(settling);
    let lines = |output: &str, count: usize| -> Vec<String> {
        let mut command = cluster.command(&["kills", "-f", "-o", output, "--context", "shop"]);
        let mut followed = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(followed.stdout.take().unwrap()).lines();
        let lines = lines.map(Result::unwrap).take(count).collect();
        followed.kill().unwrap();
        followed.wait().unwrap();
        lines
    };
    let fate = |line: &String| {
        let kill: Value = serde_json::from_str(line).unwrap();
        (kill["id"].as_u64().unwrap(), kill["survived"].as_bool())
    };
    let fates: Vec<_> = lines("json", 4).iter().map(fate).collect();
    assert_eq!(fates, [(1, None), (1, Some(true)), (2, None), (2, Some(false))]);
    let table = lines("table", 4);
    let ends = ["SURVIVED", "not known yet", "not known yet", " no"];
    assert!(table.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{table:?}");
}
