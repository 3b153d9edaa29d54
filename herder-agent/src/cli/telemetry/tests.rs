//! Each kind of line in each format, with text that wants to be more than text.

use super::*;
use crate::{
    enforce::Effect,
    report::{ConfigInForce, Reporter, tests::report},
    runtime::nri::{Answer, Listener, Outcome},
};
use herder_model::{
    cgroup::CgroupPath,
    enforcement::{Cause, Obstacle, OomGroupWrite, WriteResult},
    kill::KillReport,
    oom::{
        Kind,
        limit::Limits,
        reasons::{Lost, NoKill, Unattributed, Unseen},
    },
    owner::{ContainerNames, Owner},
    pods::restarts::{Reason, RestartSeen},
    rules::{annotation::AnnotationError, matching::Target},
};
use serde_json::Value;
use std::{
    io::Write,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where only one subscriber lives, the thread that is the first to come to a line decides whether
/// that is ever logged, also one that has no subscriber (`Dispatchers::rebuilder()`, tracing-core
/// 0.1.36). This one lives on, so that no test is the only one that has another.
static ANOTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

/// The lines that something logs.
pub(crate) fn logged(format: LogFormat, run: impl FnOnce()) -> Vec<String> {
    LazyLock::force(&ANOTHER);
    let lines = Lines::default();
    let writer = lines.clone();
    let all = "herder_agent=debug".parse().unwrap();
    let (dispatch, _) = subscriber(format, all, false, move || writer.clone());
    tracing::dispatcher::with_default(&dispatch, run);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

/// A switch that only remembers the filters.
pub(crate) fn switch() -> (LogSwitch, Arc<Mutex<Vec<String>>>) {
    let filters = Arc::<Mutex<Vec<String>>>::default();
    let kept = filters.clone();
    let replace = move |filter: Targets| {
        kept.lock().unwrap().push(filter.to_string());
        Ok(())
    };
    (LogSwitch(Arc::new(replace)), filters)
}

#[test]
fn the_library_is_heard_only_if_asked_for_by_name() {
    for (level, parts, others) in [
        ("info", &["ours"][..], &["kube", "detail"][..]),
        ("debug", &["ours", "detail"], &["kube"]),
        ("info,kube_client=debug", &["ours", "kube"], &["detail"]),
    ] {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = filter(&level.parse().unwrap()).unwrap();
        let (dispatch, _) = subscriber(LogFormat::Text, filter, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::error!(target: "kube_client::client::builder", "of kube");
            tracing::debug!("ours in detail");
            tracing::info!("ours");
        });
        let shown = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(parts.iter().all(|part| shown.contains(part)), "{level}: {shown}");
        assert!(!others.iter().any(|part| shown.contains(part)), "{level}: {shown}");
    }
}

/// In both formats, from less to more and back, and for modules of their own.
#[test]
fn another_level_counts_from_the_next_line_on() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = Lines::default();
        let writer = lines.clone();
        let level = |text: &str| text.parse::<LogLevel>().unwrap();
        let begin = filter(&level("warn")).unwrap();
        let (dispatch, switch) = subscriber(format, begin, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            for (number, text) in
                ["debug", "off", "error,elsewhere=debug", "info,elsewhere=off"].iter().enumerate()
            {
                tracing::debug!("debug before {number}");
                switch.set(&level(text)).unwrap();
                tracing::debug!("debug after {number}");
                tracing::debug!(target: "elsewhere::inside", "elsewhere after {number}");
                tracing::info!("info after {number}");
            }
        });
        let shown = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let words = ["debug before", "debug after", "elsewhere after", "info after"];
        let found: Vec<_> = (0..4)
            .map(|number| words.map(|word| shown.contains(&format!("{word} {number}"))))
            .collect();
        let expected = [
            [false, true, true, true],
            [true, false, false, false],
            [false, false, true, false],
            [false, false, false, true],
        ];
        assert_eq!(found, expected, "{shown}");
    }
}

/// The model and the library agree on what is a level.
#[test]
fn every_level_of_the_model_is_one_of_the_library() {
    for text in ["off", "error", "warn", "info", "debug", "trace", "info,a::b_2=off,C=trace"] {
        filter(&text.parse().unwrap()).unwrap();
    }
}

/// No line may be two, and nothing may end before its end.
const NASTY: &str = "/a\"b\\c\n2026-01-01T00:00:00Z  INFO \u{1b}[31m OOM kill.";

/// One line of each kind.
fn each_kind() {
    let reporter = Reporter::default();
    let cgroup = CgroupPath::parse(NASTY.as_bytes()).unwrap();
    let [namespace, pod, container] = ["shop", "web-0", NASTY].map(str::to_owned);
    let names = ContainerNames { namespace, pod, container };
    let mut kill = report(Owner::Container(names.clone()), Kind::Subprocess);
    kill.kill.victims[0].comm = NASTY.into();
    if let Some(trigger) = &mut kill.kill.trigger {
        trigger.comm = NASTY.into();
    }
    reporter.kill(&KillReport {
        cgroup: Some(cgroup.clone()),
        rule: Some(NASTY.into()),
        limits: Limits { cgroup: Some(cgroup.clone()), bytes: Some(7), ..Limits::default() },
        ..kill.clone()
    });
    reporter.kill(&kill);
    reporter.lost(Lost::VictimMissing, 1);
    reporter.unattributed(Unattributed::UnknownPod);
    reporter.unseen(Unseen::Missed, Some(&cgroup), 1);
    reporter.unseen(Unseen::AgentDown, None, 1);
    reporter.no_kill(NoKill::AlreadyDying, 1, 1);
    let results = [WriteResult::Ok, WriteResult::Gone, WriteResult::Error(NASTY.into())];
    for (result, dry_run) in results.iter().flat_map(|it| [(it, true), (it, false)]) {
        reporter.enforcement(&Effect::Wrote(OomGroupWrite {
            cgroup: cgroup.clone(),
            rule: NASTY.into(),
            old: true,
            new: false,
            cause: Cause::Enforce,
            result: result.clone(),
            took: Duration::ZERO,
            dry_run,
        }));
    }
    for obstacle in [Some((Obstacle::Ancestor, NASTY.into())), None] {
        let (cgroup, rule) = (cgroup.clone(), NASTY.into());
        reporter.enforcement(&Effect::Blocked { cgroup, rule, obstacle });
    }
    let hash = NASTY.to_owned();
    reporter.config_reload(Ok(ConfigInForce { hash, log_level: LogLevel::default() }));
    reporter.restart(&RestartSeen { names, reason: Reason::OomKilled, times: 1, ended: None });
    reporter.bad_annotation("shop", NASTY, &AnnotationError::Long);
    let target = Target::new(NASTY.into(), true);
    for outcome in [Outcome::Set, Outcome::DryRun, Outcome::Conflict] {
        let (namespace, pod, container) = ("shop", "web-0", NASTY);
        let target = Some(&target);
        reporter.answered(&Answer { namespace, pod, container, target, outcome });
    }
}

#[test]
fn json_has_each_text_as_it_is() {
    let lines = logged(LogFormat::Json, each_kind);
    assert_eq!(lines.len(), 21, "{lines:#?}");
    let mut nasty = 0;
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap();
        for (key, value) in line.as_object().unwrap() {
            let text = value.as_str().unwrap_or_default();
            let debugged = ["\"", "Some(", "None", "Ok(", "Err("];
            assert!(!debugged.iter().any(|begin| text.starts_with(begin)), "{key}: {line:#}");
            nasty += usize::from(text == NASTY);
        }
    }
    assert!(nasty > 20, "{lines:#?}");
}

#[test]
fn no_text_forges_a_line() {
    let lines = logged(LogFormat::Text, each_kind);
    assert_eq!(lines.len(), 21, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:#?}");
}
