//! Lists of kills and containers: pages, pieces, gzip, and a core that does not answer.

use super::*;

/// The body and the header of a page.
fn page(answer: &str) -> (Vec<u64>, Option<&str>) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kills: Vec<Value> = serde_json::from_str(body).unwrap();
    let next =
        head.lines().find_map(|line| line.strip_prefix("link: <")?.strip_suffix(">; rel=\"next\""));
    (kills.iter().map(|kill| kill["id"].as_u64().unwrap()).collect(), next)
}

#[tokio::test]
async fn kills_come_in_pages() {
    let server = Server::start().await;
    let get = async |query: &str| {
        // In the oldest version of HTTP a body is as it is.
        let path = format!("/api/v1/kills{query}");
        server.ask(&format!("GET {path} HTTP/1.0\r\n\r\n")).await
    };
    assert_eq!(page(&get("").await), (vec![], None));
    (0..KEPT + 5).for_each(|_| server.kill());
    let (all, next) = (get("").await, None);
    assert_eq!(page(&all), ((6..=1005).rev().collect(), next), "all that are kept");
    let table = [
        ("?limit=2", vec![1005, 1004], Some("?limit=2&before=1004")),
        ("?limit=2&before=1004", vec![1003, 1002], Some("?limit=2&before=1002")),
        ("?before=9", vec![8, 7, 6], None),
        ("?limit=3&before=9", vec![8, 7, 6], None),
        ("?limit=2&before=8", vec![7, 6], None),
        ("?limit=2&before=7", vec![6], None),
        ("?limit=2&before=6", vec![], None),
        ("?before=0", vec![], None),
        ("?limit=0", vec![], None),
        ("?limit=1&before=18446744073709551615", vec![1005], Some("?limit=1&before=1005")),
    ];
    for (query, kills, next) in table {
        assert_eq!(page(&get(query).await), (kills, next), "{query}");
    }
    assert_eq!(page(&get("?limit=18446744073709551615").await).0.len(), KEPT);
    for bad in ["?limit=", "?limit=-1", "?before=x", "?limit=18446744073709551616"] {
        has(&server.get(&format!("/api/v1/kills{bad}")).await, 400, "must be numbers");
    }
    let (mut query, mut walked) = ("?limit=300".to_owned(), Vec::new());
    loop {
        let answer = get(&query).await;
        let (kills, next) = page(&answer);
        walked.extend(kills);
        let Some(next) = next else { break };
        query = next.to_owned();
    }
    assert_eq!(walked, (6..=1005).rev().collect::<Vec<_>>());
}

/// A core with so many matched containers.
async fn play_core(
    commands: &mut mpsc::Receiver<StatesRequest>,
    containers: usize,
    answers: usize,
) {
    let mut asked = 0;
    while let Some(StatesRequest { after, most, answer }) = commands.recv().await {
        asked += 1;
        if asked > answers {
            drop(answer);
            continue;
        }
        let first = after.map_or(0, |(_, id)| usize::try_from(id.0).unwrap() + 1);
        let last = (first + most).min(containers);
        let state = |number: usize| ContainerState {
            id: CgroupId(number as u64),
            cgroup: CgroupPath::parse(format!("/c{number}").as_bytes()).unwrap(),
            inner_cgroup: None,
            owner: Owner::Host { cgroup: CgroupPath::root() },
            rule: "rule".into(),
            wanted: 0,
            effective: Some(0),
            first: None,
            obstacle: None,
            explanation: None,
            writes: 1,
            reverts: 0,
            escalation: None,
            init: None,
        };
        let more = last < containers;
        let next = more.then(|| (CgroupPath::root(), CgroupId(last as u64 - 1)));
        let _ = answer.send(States { states: (first..last).map(state).collect(), next });
    }
}

#[tokio::test]
async fn containers_come_piece_by_piece() {
    for containers in [0, 1, 32, 33, 200] {
        let mut server = Server::start().await;
        let (_, mut none) = mpsc::channel(1);
        std::mem::swap(&mut server.commands, &mut none);
        tokio::spawn(async move { play_core(&mut none, containers, usize::MAX).await });
        let answer = server.ask("GET /api/v1/containers HTTP/1.0\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let all: Vec<Value> = serde_json::from_str(body).unwrap();
        let paths: Vec<_> = all.iter().map(|one| one["cgroup"].as_str().unwrap()).collect();
        let expected: Vec<_> = (0..containers).map(|number| format!("/c{number}")).collect();
        assert_eq!(paths, expected);
        assert_eq!(head.contains("content-length"), containers <= 32, "{head}");
    }
}

/// With and without gzip a client has the same, however many pieces it is.
#[tokio::test]
async fn answers_are_the_same_with_gzip() {
    let server = Server::start().await;
    let table =
        [("/api/v1/kills", 0), ("/api/v1/kills", 3), ("/metrics", 3), ("/api/v1/kills", 500)];
    let mut kills = 0;
    for (path, more) in table {
        (kills..more).for_each(|_| server.kill());
        kills = kills.max(more);
        let asked = async |headers: &str| {
            let mut stream = server.connect(1).await;
            let request = format!("GET {path} HTTP/1.0\r\n{headers}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end..].to_vec())
        };
        let (head, plain) = asked("Accept-Encoding: gzip;q=0\r\n").await;
        assert!(!head.contains("content-encoding") && head.contains("vary: accept-encoding"));
        let (head, encoded) = asked("Accept-Encoding: br, gzip\r\n").await;
        assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
        let mut text = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&encoded[..]);
        std::io::Read::read_to_end(&mut decoder, &mut text).unwrap();
        let lines = |text: &[u8]| {
            let text = String::from_utf8(text.to_vec()).unwrap();
            // The agent's own figures change from one scrape to the next.
            let lines = text.lines().filter(|line| !line.contains("process_"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&text), lines(&plain), "{path}");
        let is_long = plain.len() > 1000;
        assert!(
            encoded.len() * 4 < plain.len() || !is_long,
            "{} of {}",
            encoded.len(),
            plain.len()
        );
    }
    has(&server.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n").await, 200, "gzip");
    has(&server.ask("GET /livez HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n").await, 200, "ok");
}

/// A client must not take a part of a list for all of it.
#[tokio::test]
async fn a_core_that_stops_answering_breaks_the_answer() {
    let mut server = Server::start().await;
    let (_, mut none) = mpsc::channel(1);
    std::mem::swap(&mut server.commands, &mut none);
    tokio::spawn(async move { play_core(&mut none, 200, 3).await });
    let answer = server.get("/api/v1/containers").await;
    has(&answer, 200, "/c95");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_core_that_does_not_answer_is_reported() {
    let server = Server::start().await;
    has(&server.get("/api/v1/containers").await, 503, "core");
    assert!(!server.commands.is_empty(), "it was asked");
}
