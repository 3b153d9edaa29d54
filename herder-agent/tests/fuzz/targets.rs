//! What is fuzzed, and what has to hold whatever the bytes are, beside that
//! nothing panics.

use bytes::BytesMut;
use herder_agent::inside::{
    kernel::probe::{KernelFacts, decode},
    runtime::nri::{
        desired_adjustment, learn,
        mux::{Demultiplexer, Message},
        wire::{ContainerRequest, Request, StateChangeEvent, SynchronizeRequest},
    },
};
use herder_agent_ebpf::candidates::LARGEST;
use herder_model::{
    cgroup::CgroupPath,
    clock::Monotonic,
    owner::path::PodCgroup,
    pods::{Event, LARGEST_LABELS, LONGEST_ANNOTATION, Pod, store::PodStore, wire::PodObject},
    rules::{
        matching::{PodSubject, Policy, Subject, SubjectPod, Verdict},
        parse::Config,
    },
};
use kube::core::WatchEvent;
use prost::Message as _;
use std::{collections::HashSet, os::unix::ffi::OsStrExt, sync::Arc};

/// Whether an input gets beyond the first check of its parser.
type IsRead = fn(&[u8]) -> bool;

pub(crate) const READ: [(&str, IsRead); 8] = [
    ("path", |input| CgroupPath::parse(input).is_ok_and(|path| PodCgroup::parse(&path).is_some())),
    ("annotation", |input| !matches!(wanted(&text(input), "worker"), Verdict::BadAnnotation(_))),
    ("record", |input| decode::decode(input, 4096).is_ok()),
    ("btf", |input| KernelFacts::read(input).is_ok()),
    ("config", |input| Config::parse(&text(input), "test").is_ok()),
    ("pod", |input| trimmed(input).is_some()),
    ("watch", |input| matches!(line(input), Some(WatchEvent::Added(_) | WatchEvent::Modified(_)))),
    ("nri", |input| asked(input).iter().any(|asked| asked.container.is_some())),
];

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// The kernel's path of a cgroup.
pub(crate) fn path(input: &[u8]) {
    let Ok(path) = CgroupPath::parse(input) else { return };
    let opened = [b"/", path.relative().as_bytes()].concat();
    assert_eq!(if input == b"/" { b"/." } else { input }, opened, "as it was");
    assert!(!path.to_string().contains(|letter: char| letter.is_control()));
    assert!(path.ancestors().all(|above| path.is_within(&above)));
    let Some(cgroup) = PodCgroup::parse(&path) else { return };
    // What is named must be there, letter by letter.
    let uid = cgroup.pod_uid.to_string();
    let there = |part: &str| path.as_str().contains(part);
    assert!(there(&uid) || there(&uid.replace('-', "_")));
    if let Some(container) = cgroup.container() {
        assert!(there(&container.id.to_string()));
        let outermost = cgroup.container_path(&path).unwrap();
        assert!(path.is_within(&outermost));
        assert_eq!(PodCgroup::parse(&outermost).unwrap().container().unwrap().id, container.id);
    }
}

fn wanted(annotation: &str, container: &str) -> Verdict {
    let mut pod = trimmed(br#"{"metadata":{"name":"a","namespace":"b","uid":"2c39abf0-f543-4c05-8cfe-3839410aef01"}}"#).unwrap();
    pod.oom_group = Some(annotation.into());
    let cgroup = CgroupPath::root();
    let pod = SubjectPod::Known(PodSubject { pod: &pod, container: Some(container) });
    Policy::default().decide(&Subject { cgroup: &cgroup, pod })
}

/// A pod's annotation.
pub(crate) fn annotation(input: &[u8]) {
    let text = text(input);
    let verdicts = ["worker", "sidecar", ""].map(|container| wanted(&text, container));
    let bad = |verdict: &Verdict| matches!(verdict, Verdict::BadAnnotation(_));
    assert!(verdicts.iter().all(bad) || !verdicts.iter().any(bad), "bad for all or for none");
    if let [Verdict::BadAnnotation(error), ..] = &verdicts {
        assert!(error.to_string().len() < 1024);
    } else {
        assert!(text.len() <= LONGEST_ANNOTATION);
    }
}

/// A record of the eBPF programs.
pub(crate) fn record(input: &[u8]) {
    use herder_model::oom::event::Event::{
        Candidates, CgroupMade, CgroupOutside, CgroupRemoved, Decided, Exited, Levels, Lineage,
        Marked,
    };
    match decode::decode(input, 4096) {
        Ok(CgroupMade(event) | CgroupRemoved(event)) => {
            assert!(!event.path.to_string().contains(|letter: char| letter.is_control()));
        }
        Ok(Marked(mark)) => assert!(!mark.victim.comm.contains('\0')),
        Ok(Lineage(lineage)) => assert!(lineage.above.len() <= 32),
        Ok(Levels(levels)) => assert!(levels.upwards.len() <= 32),
        Ok(Candidates(candidates)) => {
            assert!(candidates.largest.len() <= LARGEST);
            assert!(candidates.largest.is_sorted_by_key(|it| std::cmp::Reverse(it.size())));
        }
        Ok(Decided(_) | Exited { .. } | CgroupOutside) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The kernel's BTF.
pub(crate) fn btf(input: &[u8]) {
    if let Ok(facts) = KernelFacts::read(input) {
        facts.describes_at_mark();
        facts.reads_levels();
    }
}

/// The configuration.
pub(crate) fn config(input: &[u8]) {
    match Config::parse(&text(input), "test") {
        Ok(config) => {
            let policy = Policy::new(config);
            let pod = trimmed(include_bytes!("../corpus/pod/small")).unwrap();
            let cgroup = CgroupPath::parse(b"/system.slice/docker-1.scope/container").unwrap();
            for container in [Some("worker"), None] {
                let pod = SubjectPod::Known(PodSubject { pod: &pod, container });
                policy.decide(&Subject { cgroup: &cgroup, pod });
            }
        }
        Err(error) => assert!(error.to_string().starts_with("test:")),
    }
}

fn trimmed(input: &[u8]) -> Option<Pod> {
    serde_json::from_slice::<PodObject>(input).ok()?.trim()
}

/// A pod, as the API server sends it.
pub(crate) fn pod(input: &[u8]) {
    let Some(pod) = trimmed(input) else { return };
    let labels = pod.labels.iter().flatten();
    assert!(labels.map(|(key, value)| key.len() + value.len()).sum::<usize>() <= LARGEST_LABELS);
    assert!(pod.oom_group.as_ref().is_none_or(|text| text.len() <= LONGEST_ANNOTATION + 4));
    for (key, value) in pod.labels.iter().flatten() {
        assert_eq!(pod.label(key), Some(value.as_ref()));
    }
    let (mut store, now) = (PodStore::default(), Monotonic::ZERO);
    let event = || Event::Applied(Box::new(pod.clone()));
    assert!(!store.apply(event(), now).is_empty());
    let again = store.apply(event(), now);
    // The API server lets no two containers of a pod have the same name.
    let names: HashSet<_> = pod.containers.iter().map(|container| &container.name).collect();
    assert!(again.is_empty() || names.len() < pod.containers.len(), "the same is no change");
    for id in pod.containers.iter().flat_map(herder_model::pods::Container::ids) {
        assert_eq!(store.by_container(id).unwrap().pod.uid, pod.uid);
    }
    store.apply(Event::Deleted(pod.uid), now);
    store.expire(now + herder_model::pods::store::GRACE);
    assert!(store.known(pod.uid).is_none());
}

fn line(input: &[u8]) -> Option<WatchEvent<PodObject>> {
    serde_json::from_slice(input).ok()
}

/// A line of a watch, as the API server sends it.
pub(crate) fn watch(input: &[u8]) {
    match line(input) {
        Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod)) => {
            if let Some(trimmed) = pod.trim() {
                let mut store = PodStore::default();
                store.apply(Event::Applied(Box::new(trimmed)), Monotonic::ZERO);
            }
        }
        Some(WatchEvent::Error(status)) => drop(kube::Error::Api(status).to_string()),
        Some(WatchEvent::Bookmark(_)) | None => {}
    }
}

/// The messages in what a container runtime sends, in pieces of so many bytes.
fn messages(input: &[u8], piece: usize) -> Vec<Message> {
    let (mut demultiplexer, mut socket) = (Demultiplexer::default(), BytesMut::new());
    let mut messages = Vec::new();
    for part in input.chunks(piece) {
        socket.extend_from_slice(part);
        loop {
            match demultiplexer.next(&mut socket) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}

/// What is asked about containers.
fn asked(input: &[u8]) -> Vec<ContainerRequest> {
    let requests =
        messages(input, 4096).into_iter().flat_map(|message| Request::decode(message.body));
    let asked = |request: Request| match request.method.as_str() {
        "Synchronize" => {
            let decoded = SynchronizeRequest::decode(request.payload).unwrap_or_default();
            let pod = decoded.pods.first().cloned();
            let about = |container| ContainerRequest {
                pod: pod.clone(),
                container: Some(container),
                resources: None,
            };
            decoded.containers.into_iter().map(about).collect()
        }
        "StateChange" => {
            let decoded = StateChangeEvent::decode(request.payload).unwrap_or_default();
            let StateChangeEvent { pod, container, .. } = decoded;
            vec![ContainerRequest { pod, container, resources: None }]
        }
        _ => ContainerRequest::decode(request.payload).into_iter().collect(),
    };
    requests.flat_map(asked).collect()
}

/// What a container runtime sends to a plugin.
pub(crate) fn nri(input: &[u8]) {
    let whole = messages(input, usize::MAX);
    assert_eq!(messages(input, 3), whole, "the pieces make no difference");
    assert!(whole.iter().map(|message| message.body.len()).sum::<usize>() <= input.len());
    for message in &whole {
        assert_eq!(messages(&message.frames().unwrap(), 4096), std::slice::from_ref(message));
    }
    let text = "rules:\n- {name: c, cgroups: ['/kubepods.slice/**/x'], oomGroup: group}\n- {name: p, pods: {}, oomGroup: single-process}";
    let policy = Policy::new(Config::parse(text, "test").unwrap());
    for ContainerRequest { pod, container, resources } in asked(input) {
        let (Some(sandbox), Some(container)) = (pod, container) else { continue };
        let Some(pod) =
            herder_agent::inside::runtime::nri::pod_from_sandbox(&sandbox).map(Arc::new)
        else {
            continue;
        };
        assert_eq!(pod.uid.to_string(), sandbox.uid);
        if let Some(learnt) = learn(&pod, &container) {
            assert_eq!(learnt.id.to_string(), container.id);
        }
        if let Ok(Some(wish)) = desired_adjustment(&policy, &pod, &container, resources.as_ref()) {
            assert_eq!(wish.update(&container.id).container_id, container.id);
        }
    }
}
