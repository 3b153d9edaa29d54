//! Against the real server, over TCP.

use super::*;
use crate::{
    cli::args::{Cli, Output, Task},
    report::{Reporter, heartbeat::Heartbeat, tests::report},
    serve::{
        self, Readiness, State,
        access::{AccessFiles, authority::Authority},
    },
};
use clap::Parser;
use herder_model::{cgroup::CgroupPath, oom::Kind, owner::Owner};
use std::{fs, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// With more flags after the URL.
fn agent_with(url: &str, flags: &[&str]) -> Result<Agent, ClientError> {
    let line = ["herder-agent", "containers", "--url", url];
    let cli = Cli::try_parse_from([&line[..], flags].concat()).unwrap();
    let Task::Containers(args) = cli.task else { panic!("another task") };
    Agent::of(&args.agent)
}

fn agent_at(url: &str) -> Result<Agent, ClientError> {
    agent_with(url, &[])
}

async fn agent() -> (Agent, Arc<Reporter>) {
    let listeners = serve::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let url = format!("http://{}", listeners.addresses()[0]);
    let reporter = Arc::<Reporter>::default();
    let (core, _) = mpsc::channel(1);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = State::new(reporter.clone(), ready, core, heartbeat, None, "node-1");
    tokio::spawn(serve::run(listeners, state, std::future::pending()));
    (agent_at(&url).unwrap(), reporter)
}

fn kill(reporter: &Reporter) {
    let cgroup = CgroupPath::parse(b"/c").unwrap();
    reporter.kill(&report(Owner::Host { cgroup }, Kind::Subprocess));
}

#[tokio::test]
async fn kills_are_asked_and_followed() {
    let (agent, reporter) = agent().await;
    kill(&reporter);
    let kills: Vec<Value> =
        agent.json(&agent.get("/api/v1/kills?limit=20").await.unwrap()).unwrap();
    assert_eq!(kills.len(), 1);
    kill(&reporter);
    let mut stream = agent.ask("/api/v1/kills/stream", Some(1.into())).await.unwrap();
    let mut events = Events::after("1".into());
    let mut next = async || {
        loop {
            match events.next().transpose().unwrap() {
                Some(News::Kill(kill) | News::Settled(kill)) => return kill,
                Some(news) => panic!("{news:?}"),
                None => events.push(&stream.more().await.unwrap().expect("the stream goes on")),
            }
        }
    };
    kill(&reporter);
    assert_eq!(next().await["id"], 2);
    assert_eq!(next().await["id"], 3);
    // The fate of a container is an update of its kill, not a new one.
    let owner = Owner::Host { cgroup: CgroupPath::parse(b"/c").unwrap() };
    let after = Some(Duration::from_millis(500));
    assert!(reporter.settled(2, &owner, after, None).is_some());
    assert!(reporter.settled(2, &owner, None, None).is_none(), "it is known");
    assert!(reporter.settled(9, &owner, None, None).is_none(), "no kill");
    let event = next().await;
    assert_eq!((&event["id"], &event["survived"]), (&2.into(), &false.into()));
    assert!(events.last.ends_with("-3"), "{}", events.last);
}

#[tokio::test]
async fn the_last_kills_come_oldest_first_a_page_at_a_time() {
    let (agent, reporter) = agent().await;
    let asked = async |limit| {
        let (mut all, mut most) = (Vec::new(), 0);
        let last = last(&agent, limit, |kills| {
            most = most.max(kills.len());
            all.extend(kills.iter().map(|kill| kill["id"].as_u64().unwrap()));
            Ok(())
        });
        (last.await.unwrap(), all, most)
    };
    assert_eq!(asked(20).await, (0, vec![], 0));
    (0..1050).for_each(|_| kill(&reporter));
    for (limit, first, most) in [(20, 1031, 20), (100, 951, 100), (250, 801, 100), (5000, 51, 100)]
    {
        assert_eq!(asked(limit).await, (1050, (first..=1050).collect(), most), "{limit}");
    }
    assert_eq!(asked(0).await, (1050, vec![], 0));
}

/// Statuses and bodies.
type Answers = &'static [(u16, &'static str)];

/// An agent, or a proxy before one, that gives these answers one after the other; and what it was
/// asked.
async fn answering(answers: Answers) -> (Agent, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = agent_at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let length = stream.read(&mut head).await.unwrap();
            asked.push(String::from_utf8_lossy(&head[..length]).into_owned());
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
        asked
    });
    (agent, asked)
}

#[tokio::test]
async fn a_follower_waits_for_an_agent_that_is_away() {
    let mut print = Printer::new(Output::Json, false);
    let (agent, asked) = answering(&[(502, "no upstream"), (404, "no such path")]).await;
    let error = follow(&agent, "/stream", "a-7".into(), may_pass, &mut print).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: 404, .. }), "{error}");
    let asked = asked.await.unwrap();
    assert!(asked.iter().all(|head| head.contains("last-event-id: a-7\r\n")), "{asked:?}");
    for (status, passes) in [(429, true), (502, true), (503, true), (504, true), (401, false)] {
        let refused = ClientError::Refused { url: String::new(), status, body: String::new() };
        assert_eq!(may_pass(&refused), passes, "{status}");
    }
}

/// Where its kills begin, whether some of before are asked for or not, or its first answer is none.
#[tokio::test]
async fn a_pod_follows_from_where_it_began() {
    let mut print = Printer::for_pod(Output::Json);
    let table: [(Answers, u32, &str); 3] = [
        (&[(200, r#"[{"id":"abc"}]"#), (404, "")], 0, "abc"),
        (&[(200, "[]"), (404, "")], 20, "none"),
        (&[(502, ""), (404, "")], 20, "none"),
    ];
    for (answers, limit, last) in table {
        let (agent, asked) = answering(answers).await;
        let error = own::show(&agent, limit, true, &mut print).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { status: 404, .. }), "{error}");
        let asked = asked.await.unwrap();
        assert!(asked[0].contains(&format!("kills?limit={} ", limit.max(1))), "{asked:?}");
        assert!(asked[1].contains(&format!("last-event-id: {last}\r\n")), "{asked:?}");
    }
}

#[tokio::test]
async fn an_agent_of_ipv6_is_asked() {
    let listeners = serve::bind(&["[::1]:0".parse().unwrap()]).unwrap();
    let url = format!("http://{}", listeners.addresses()[0]);
    let (core, _) = mpsc::channel(1);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = State::new(Arc::default(), ready, core, heartbeat, None, "node-1");
    tokio::spawn(serve::run(listeners, state, std::future::pending()));
    assert_eq!(agent_at(&url).unwrap().get("/api/v1/kills").await.unwrap(), "[]");
}

/// As `kubectl proxy` has it, with a slash at the end or without.
#[tokio::test]
async fn an_agent_below_a_path_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for end in ["", "/"] {
        let agent = agent_at(&format!("http://{address}/api/v1/pods/x:9469/proxy{end}")).unwrap();
        let asked = tokio::spawn(async move { agent.get("/api/v1/node").await.unwrap() });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let expected = b"GET /api/v1/pods/x:9469/proxy/api/v1/node HTTP/1.1\r\n";
        assert!(head[..length].starts_with(expected), "{}", head[..length].escape_ascii());
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        assert_eq!(asked.await.unwrap(), "{}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (agent, _) = agent().await;
    let refused = agent.get("/nothing").await.unwrap_err().to_string();
    assert!(refused.contains("404"), "{refused}");
    let core = agent.get("/api/v1/containers").await.unwrap_err().to_string();
    assert!(core.contains("503") && core.contains("core"), "{core}");
    for wrong in ["127.0.0.1:9469", "https:///x", "http://x/?path", "", "http://"] {
        assert!(matches!(agent_at(wrong), Err(ClientError::Url(_))), "{wrong}");
    }
    let unreachable =
        agent_at("http://127.0.0.1:1").unwrap().get("/").await.unwrap_err().to_string();
    assert!(unreachable.contains("127.0.0.1:1") && unreachable.contains("--url"), "{unreachable}");
}

/// An agent that asks for TLS, a certificate, a name and a password. The error names each thing
/// that is missing, and what to do.
#[tokio::test]
async fn an_agent_is_shown_what_it_asks_for() {
    let directory = std::env::temp_dir().join(format!("herder-client-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str, text: &str| {
        fs::write(directory.join(name), text).unwrap();
        directory.join(name).display().to_string()
    };
    let authority = Authority::new("ca");
    let (server, own) = (authority.certify(&["agent.example"]), authority.certify(&["me"]));
    let (ca, certificate, key) = (
        file("ca.crt", &authority.pem()),
        file("me.crt", &own.certificate),
        file("me.key", &own.key),
    );
    let (password, wrong) = (file("password", "secret\n"), file("wrong", "other"));
    file("tls.crt", &server.certificate);
    file("tls.key", &server.key);
    let web = format!(
        "tls_server_config: {{cert_file: tls.crt, key_file: tls.key, client_ca_file: ca.crt, \
         client_auth_type: RequireAndVerifyClientCert}}\nbasic_auth_users: {{me: {}}}",
        bcrypt::hash("secret", 4).unwrap()
    );
    file("web.yaml", &web);
    let listeners = serve::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners.addresses()[0];
    let (core, _) = mpsc::channel(1);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let (_, access) = watch::channel(
        AccessFiles::read(&directory.join("web.yaml"), |path| fs::read_to_string(path))
            .take()
            .unwrap(),
    );
    let state = State::new(Arc::default(), ready, core, heartbeat, None, "node-1").asking(access);
    tokio::spawn(serve::run(listeners, state, std::future::pending()));

    let url = format!("https://{address}");
    let plain = agent_at(&format!("http://{address}")).unwrap().get("/api/v1/kills").await;
    assert!(plain.unwrap_err().to_string().contains("ask https://"));
    let (ca, name) = (["--ca-file", &ca], ["--tls-server-name", "agent.example"]);
    let certificate = ["--cert-file", &certificate, "--key-file", &key];
    let user = ["--user", "me", "--password-file"];
    let stranger = file("stranger.crt", &Authority::new("other").pem());
    let table: [(Vec<&str>, &str); 6] = [
        (vec!["--ca-file", &stranger, name[0], name[1]], "give the authority"),
        (ca.to_vec(), "--tls-server-name"),
        ([&ca[..], &name].concat(), "--cert-file and --key-file"),
        ([&ca[..], &name, &certificate].concat(), "--user and --password-file"),
        ([&ca[..], &name, &certificate, &user, &[&wrong]].concat(), "password is wrong"),
        ([&ca[..], &name, &certificate, &user, &[&password]].concat(), ""),
    ];
    for (flags, expected) in table {
        let got = agent_with(&url, &flags).unwrap().get("/api/v1/kills").await;
        match got {
            Ok(text) => assert!(text == "[]" && expected.is_empty(), "{flags:?}: {text}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{flags:?}: {error}");
            }
        }
    }
    for (flags, part) in [
        (vec!["--ca-file", "/none"], "--ca-file: /none"),
        (vec!["--ca-file", &password], "no certificate in PEM"),
        (vec![ca[0], ca[1], "--user", "me", "--password-file", "/none"], "--password-file: /none"),
        (vec![ca[0], ca[1], "--tls-server-name", "a b"], "no name of a server"),
    ] {
        let error = agent_with(&url, &flags).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
    let (without, _) = agent().await;
    let url = without.get("/nothing").await.unwrap_err().to_string();
    let url = url.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    let with = agent_with(&url.replace("http://", "https://"), &ca).unwrap();
    let error = with.get("/api/v1/kills").await.unwrap_err().to_string();
    assert!(error.contains("does the agent have TLS?"), "{error}");
    fs::remove_dir_all(&directory).unwrap();
}

/// Something else may listen where an agent is looked for, and say more than fits.
#[tokio::test]
async fn an_answer_without_end_is_given_up_with_the_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let piece = vec![b' '; 1 << 20];
            while stream.write_all(&piece).await.is_ok() {}
        }
    });
    let agent = agent_at(&url).unwrap();
    let error = agent.get("/api/v1/containers").await.unwrap_err().to_string();
    assert!(error.contains(&url) && error.contains("more than 64 MiB"), "{error}");
}
