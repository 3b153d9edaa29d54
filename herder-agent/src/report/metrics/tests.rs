mod contract;
mod sizing;

use super::*;
use crate::report::ConfigInForce;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    oom::{Kind, Limit, OomKill, Trigger, Victim, limit::Limits},
    owner::ContainerNames,
    rules::parse::LogLevel,
};
use sizing::at_its_limit;
use std::time::SystemTime;

/// Some moment.
const NOW: Monotonic = Monotonic(1_000_000_000_000);

fn host(path: &str) -> Owner {
    Owner::Host { cgroup: CgroupPath::parse(path.as_bytes()).unwrap() }
}

fn pod(name: &str) -> Owner {
    let [namespace, pod, container] = ["ns", name, "worker"].map(str::to_owned);
    Owner::Container(ContainerNames { namespace, pod, container })
}

fn report(owners: &[Owner], kind: Kind, cgroup: Option<&str>) -> KillReport {
    let victim = Victim {
        tid: 1,
        tgid: 1,
        comm: "x".into(),
        ..Victim::nameless(CgroupId(1), Monotonic::ZERO)
    };
    let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(1), comm: "x".into() };
    let kill = OomKill {
        victims: vec![victim; owners.len()],
        trigger: Some(trigger),
        ..OomKill::default()
    };
    KillReport {
        cgroup: cgroup.map(|path| CgroupPath::parse(path.as_bytes()).unwrap()),
        victim_owners: owners.to_vec(),
        ..KillReport::new(owners[0].clone(), kind, Limit::Container, kill)
    }
}

/// The lines of the exposition that begin so.
fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
    let text = String::from_utf8(metrics.exposition().0).unwrap();
    text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

/// Without a configuration file.
fn begins(metrics: &Metrics) {
    let (hash, log_level) = (ConfigInForce::NO_FILE.to_owned(), LogLevel::default());
    metrics.config_in_force(&ConfigInForce { hash, log_level }, SystemTime::now());
}

/// A query that counts the containers that ended must not count a group inside of a container.
#[test]
fn a_group_inside_of_a_container_is_sub_processes() {
    let metrics = Metrics::new(RETENTION);
    for ends in [false, true] {
        let kill = KillReport { ends, ..report(&[pod("a"), pod("a")], Kind::Group, None) };
        metrics.kill(&kill, Duration::ZERO, NOW);
    }
    let kills = |kind: &str| {
        let labels = format!("container=\"worker\",kind=\"{kind}\",");
        let found = lines(&metrics, "herder_oom_kills_total{").into_iter();
        found
            .filter(|line| line.contains(&labels))
            .map(|line| line.ends_with("} 1"))
            .collect::<Vec<_>>()
    };
    assert_eq!((kills("subprocess"), kills("group")), (vec![true], vec![true]));
}

#[test]
fn every_family_of_the_contract_is_there_from_the_start() {
    let metrics = Metrics::new(RETENTION);
    metrics.source("ebpf", Means::Functions);
    begins(&metrics);
    let table = [
        ("herder_kills_lost_total{reason=", 6),
        ("herder_records_lost_total{reason=", 10),
        ("herder_kills_unattributed_total{reason=", 3),
        ("herder_marks_ignored_total{reason=", 3),
        ("herder_not_enforceable{reason=", 7),
        ("herder_cgroups_not_kept{role=", 2),
        ("herder_cgroups_not_restored 0", 1),
        ("herder_config_info{hash=\"none\",log_level=\"info\"} 1", 1),
        ("herder_config_last_reload_successful 1", 1),
        ("herder_config_last_reload_success_timestamp_seconds ", 1),
        ("herder_config_reloads_total{result=", 2),
        ("herder_web_config_reloads_total{result=", 2),
        ("herder_http_refused_total{reason=", 7),
        ("herder_self_refused_total{reason=", 7),
        ("herder_victim_arguments_total{result=", 4),
        ("herder_victim_arguments_lost_total 0", 1),
        ("herder_config_watched 0", 1),
        ("herder_config_watch_failures_total 0", 1),
        ("herder_api_errors_total{reason=", 13),
        ("herder_events_total{result=", 5),
        ("herder_bad_annotations_total 0", 1),
        ("herder_nri_adjustments_total{result=", 7),
        ("herder_nri_connected 0", 1),
        ("herder_nri_connections_total{result=", 6),
        ("herder_nri_answer_seconds_count 0", 1),
        ("herder_build_info{kernel=", 1),
        ("herder_kill_report_seconds_count 0", 1),
        ("herder_enforce_seconds_count 0", 1),
        ("herder_victim_exit_seconds_count 0", 1),
        ("process_resident_memory_bytes", 1),
    ];
    for (prefix, count) in table {
        assert_eq!(lines(&metrics, prefix).len(), count, "{prefix}");
    }
}

/// No registry sees to it for families that write themselves.
#[test]
fn no_family_is_there_twice() {
    let metrics = Metrics::new(RETENTION);
    metrics.kill(&report(&[pod("a")], Kind::Init, None), Duration::ZERO, NOW);
    metrics.kill(&report(&[host("/x")], Kind::Init, Some("/x")), Duration::ZERO, NOW);
    let mut types = lines(&metrics, "# TYPE ");
    let count = types.len();
    types.sort();
    types.dedup();
    assert!(count > 20 && types.len() == count, "{types:?}");
}

#[test]
fn a_group_kill_is_one_kill_and_many_processes_each_where_it_was() {
    let metrics = Metrics::new(RETENTION);
    let owners = [pod("a"), pod("a"), pod("b")];
    metrics.kill(&report(&owners, Kind::Group, Some("/x")), Duration::ZERO, NOW);
    assert_eq!(
        lines(&metrics, "herder_oom_kills_total"),
        [
            r#"herder_oom_kills_total{container="worker",kind="group",limit="container",namespace="ns",pod="a"} 1"#
        ]
    );
    assert_eq!(
        lines(&metrics, "herder_oom_killed_processes_total"),
        [
            r#"herder_oom_killed_processes_total{container="worker",kind="group",namespace="ns",pod="a"} 2"#,
            r#"herder_oom_killed_processes_total{container="worker",kind="group",namespace="ns",pod="b"} 1"#,
        ]
    );
}

#[test]
fn matched_containers_begin_at_zero_and_outlive_the_container() {
    let metrics = Metrics::new(RETENTION);
    let now = NOW;
    metrics.oom_group_effective(&pod("a"), Some(false), true, now);
    assert_eq!(lines(&metrics, "herder_oom_kills_total").len(), 9);
    assert_eq!(lines(&metrics, "herder_oom_kills_survived_total").len(), 1);
    assert_eq!(lines(&metrics, "herder_container_oom_group{").len(), 1);
    assert!(lines(&metrics, "herder_container_oom_group_wanted{")[0].ends_with(" 1"));
    metrics.oom_group_effective(&pod("a"), None, false, now);
    assert_eq!(lines(&metrics, "herder_container_oom_group_wanted{").len(), 0);
    assert_eq!(lines(&metrics, "herder_container_oom_group{").len(), 0);
    metrics.expire(now + Duration::from_secs(14 * 60), |_| false);
    assert_eq!(lines(&metrics, "herder_oom_kills_total").len(), 9);
    metrics.survived(&pod("a"), NOW);
    assert!(lines(&metrics, "herder_oom_kills_survived_total")[0].ends_with(" 1"));
    metrics.expire(NOW + Duration::from_secs(15 * 60), |_| false);
    for family in ["herder_oom_kills_total", "herder_oom_kills_survived_total"] {
        assert_eq!(lines(&metrics, family).len(), 0);
    }
}

/// Else `increase()` would not see it.
#[test]
fn a_first_kill_makes_no_series() {
    let metrics = Metrics::new(RETENTION);
    let all =
        || ["herder_oom_kill", "herder_host_oom_kill"].map(|family| lines(&metrics, family).len());
    for owner in [pod("a"), host("/c")] {
        metrics.oom_group_effective(&owner, Some(false), false, NOW);
    }
    let before = all();
    for owner in [pod("a"), host("/c")] {
        for kind in [Kind::Subprocess, Kind::Init, Kind::Group] {
            for limit in [Limit::Container, Limit::Pod, Limit::Node] {
                let kill = report(std::slice::from_ref(&owner), kind, Some("/c"));
                metrics.kill(&KillReport { limit, ..kill }, Duration::ZERO, NOW);
            }
        }
    }
    assert_eq!(all(), before);
}

#[test]
fn a_first_write_or_revert_makes_no_series() {
    let metrics = Metrics::new(RETENTION);
    let written = |result: &WriteResult| {
        metrics.oom_group_write(&OomGroupWrite {
            cgroup: CgroupPath::root(),
            rule: "web".into(),
            old: true,
            new: false,
            cause: Cause::Revert,
            result: result.clone(),
            took: Duration::ZERO,
            dry_run: false,
        });
    };
    metrics.rule("web");
    let before = lines(&metrics, "herder_oom_group_").len();
    assert_eq!(before, 4);
    let results = [WriteResult::Ok, WriteResult::Gone, WriteResult::Error("x".into())];
    results.iter().for_each(written);
    assert_eq!(lines(&metrics, "herder_oom_group_").len(), before);
}

/// Its container may be waiting to be started again for longer than that.
#[test]
fn series_stay_while_the_pod_is_there_and_as_long_again_after_it() {
    let metrics = Metrics::new(Duration::from_secs(60));
    let now = NOW;
    metrics.oom_group_effective(&pod("a"), Some(false), false, now);
    metrics.oom_group_effective(&pod("a"), None, false, now);
    let restart = lines(&metrics, "herder_container_restarts_total");
    assert_eq!(
        restart,
        [
            r#"herder_container_restarts_total{container="worker",namespace="ns",pod="a",reason="OOMKilled"} 0"#
        ]
    );
    let later = now + Duration::from_secs(3600);
    metrics.expire(later, |names| names.pod == "a");
    metrics.expire(later + Duration::from_secs(59), |_| false);
    assert_eq!(lines(&metrics, "herder_oom_kills_total").len(), 9);
    metrics.expire(later + Duration::from_secs(60), |_| false);
    let left = ["herder_oom_kills_total", "herder_container_restarts_total"];
    assert!(left.iter().all(|family| lines(&metrics, family).is_empty()));
}

#[test]
fn a_container_that_comes_back_keeps_its_series() {
    let metrics = Metrics::new(RETENTION);
    let now = NOW;
    metrics.oom_group_effective(&host("/c"), Some(false), false, now);
    metrics.oom_group_effective(&host("/c"), None, false, now);
    metrics.oom_group_effective(&host("/c"), Some(true), false, now);
    metrics.expire(now + Duration::from_secs(3600), |_| false);
    assert_eq!(lines(&metrics, "herder_host_oom_kills_total").len(), 9);
    assert_eq!(
        lines(&metrics, "herder_host_oom_group{"),
        [r#"herder_host_oom_group{cgroup="/c"} 1"#]
    );
}

#[test]
fn cgroups_of_the_host_are_bounded() {
    let metrics = Metrics::new(RETENTION);
    for number in 0..600 {
        let path = format!("/c{number}");
        metrics.kill(&report(&[host(&path)], Kind::Subprocess, Some(&path)), Duration::ZERO, NOW);
    }
    let all = lines(&metrics, "herder_host_oom_kills_total");
    assert_eq!(all.len(), 513);
    let other = all.iter().find(|line| line.contains("\"other\"")).unwrap();
    assert!(other.ends_with(" 88"), "{other}");
}

#[test]
fn series_of_removed_cgroups_go_and_make_room() {
    let metrics = Metrics::new(RETENTION);
    let now = NOW;
    for number in 0..600 {
        let path = format!("/c{number}");
        metrics.left(&host(&path), now);
        metrics.kill(&report(&[host(&path)], Kind::Group, Some(&path)), Duration::ZERO, NOW);
        metrics.survived(&host(&path), NOW);
        metrics.left(&host(&path), now);
    }
    metrics.expire(now + Duration::from_secs(15 * 60), |_| false);
    let left = lines(&metrics, "herder_host_oom_kills_total");
    assert_eq!(left.len(), 1, "those that had to share one: {left:?}");
    let survived = lines(&metrics, "herder_host_oom_kills_survived_total");
    assert_eq!(survived, [r#"herder_host_oom_kills_survived_total{cgroup="other"} 88"#]);
    metrics.kill(&report(&[host("/new")], Kind::Group, Some("/new")), Duration::ZERO, NOW);
    assert!(
        lines(&metrics, "herder_host_oom_kills_total").iter().any(|line| line.contains("/new"))
    );
}

/// prometheus 0.14's own vectors would take these two for one series.
#[test]
fn names_that_read_the_same_together_are_two_series() {
    let metrics = Metrics::new(RETENTION);
    let named = |pod: &str, container: &str| {
        let [namespace, pod, container] = ["ns", pod, container].map(str::to_owned);
        Owner::Container(ContainerNames { namespace, pod, container })
    };
    for owner in [named("web-1", "1x"), named("web-11", "x"), named("web-11", "x")] {
        metrics.kill(&report(&[owner], Kind::Init, Some("/x")), Duration::ZERO, NOW);
    }
    let all = lines(&metrics, "herder_oom_kills_total");
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].ends_with(" 1") && all[1].ends_with(" 2"), "{all:?}");
}

#[test]
fn a_kill_in_a_cgroup_that_was_never_seen_is_counted_as_unknown() {
    let metrics = Metrics::new(RETENTION);
    metrics.kill(&report(&[host("/")], Kind::Subprocess, None), Duration::ZERO, NOW);
    let all = lines(&metrics, "herder_host_oom_kills_total");
    assert!(all[0].contains(r#"cgroup="unknown""#), "{all:?}");
}

#[test]
fn names_from_outside_cannot_break_the_exposition() {
    let metrics = Metrics::new(RETENTION);
    let nasty = b"/a\"\n\\b\x1b[31m\xff";
    let cgroup = CgroupPath::parse(nasty).unwrap();
    let kill = report(&[Owner::Host { cgroup: cgroup.clone() }], Kind::Init, None);
    metrics.kill(&KillReport { cgroup: Some(cgroup), ..kill }, Duration::ZERO, NOW);
    let all = lines(&metrics, "herder_host_oom_kills_total");
    assert_eq!(all.len(), 1);
    assert!(all[0].contains(r#"cgroup="/a\"\\x0a\\b\\x1b[31m\\xff""#), "{all:?}");
}

/// Prometheus's own opinion of names, types and help texts, with a series in
/// every family. `cargo xtask test` installs promtool.
#[test]
fn promtool_finds_nothing_to_complain_about() {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let metrics = Metrics::new(RETENTION);
    metrics.oom_group_effective(&pod("a"), Some(false), false, NOW);
    metrics.oom_group_effective(&host("/c"), Some(false), false, NOW);
    metrics.kill(&report(&[pod("a")], Kind::Init, Some("/x")), Duration::ZERO, NOW);
    metrics.oom_group_write(&OomGroupWrite {
        cgroup: CgroupPath::root(),
        rule: "rule".into(),
        old: true,
        new: false,
        cause: Cause::Revert,
        result: WriteResult::Ok,
        took: Duration::ZERO,
        dry_run: false,
    });
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        // Debian's package prometheus has it.
        return;
    };
    promtool.stdin.take().unwrap().write_all(&metrics.exposition().0).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
