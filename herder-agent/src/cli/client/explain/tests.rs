use super::*;
use serde_json::json;
use std::time::{Duration, UNIX_EPOCH};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(90)
}

fn kill() -> Value {
    json!({
        "id": 7, "time": "1970-01-01T00:01:00.000Z", "kind": "subprocess", "limit": "pod",
        "limit_cgroup": "/kubepods/pod1", "namespace": "shop", "pod": "web-0", "container": "worker",
        "cgroup": "/c", "processes": 1,
        "victim": {"comm": "gunicorn", "pid": 4711, "oom_score_adj": 950},
        "scene": {
            "finding": {"text": "One process has most of the memory.", "rules": ["one-process"]},
            "memory": {"usage": 536_870_912, "limit": 536_870_912},
            "swap": {"usage": 0, "limit": null},
            "looked_at": 20,
            "candidates": [
                {"pid": 4711, "comm": "gunicorn", "killed": true, "oom_score_adj": 950, "size": 432_013_312,
                 "anon_rss": 431_000_000, "file_rss": 4096, "shmem_rss": 0, "swap": 0, "page_tables": 1_009_216,
                 "cgroup_id": 9, "cgroup": "/kubepods/pod1/c", "owner": "shop/web-0/worker"},
                {"pid": 4700, "comm": "zombie\u{1b}[2J", "killed": false, "oom_score_adj": null, "size": null,
                 "cgroup_id": 9, "cgroup": null, "owner": null}
            ],
            "read_seconds": 0.0021,
            "container": {"cgroup": "/kubepods/pod1/c", "current": 104_857_600, "peak": null, "pids": 9, "anon": 99_000_000},
            "domain": {"cgroup": "/kubepods/pod1", "current": 209_715_200, "peak": null, "pids": 12, "anon": 99_000_000},
            "containers": [{"owner": "shop/db-0/db", "memory": 1_572_864_000u64, "request": null, "limit": 2_097_152_000u64}],
            "missing": [{"what": "domain", "why": "the cgroup was removed before its files were read"}]
        }
    })
}

#[test]
fn all_that_is_known_of_a_kill_and_what_is_not() {
    let expected = "\
Kill 7, 30s ago: subprocess in shop/web-0/worker
One process has most of the memory.

limit   pod (/kubepods/pod1)
memory  512MiB of 512MiB
swap    0KiB, no limit
victim  gunicorn (pid 4711, oom_score_adj 950)

PROCESS          PID   SIZE    ANON    FILE  SHMEM  SWAP  TABLES  ADJ  OF
gunicorn         4711  412MiB  411MiB  4KiB  0KiB   0KiB  985KiB  950  shop/web-0/worker, killed
zombie\\u{1b}[2J  4700  -       -       -     -      -     -       -    -
and 18 smaller ones

FILES, 2 ms LATER      CONTAINER  LIMIT'S CGROUP
in use                 100MiB     200MiB
anonymous              94MiB      94MiB
processes and threads  9          12

MOST MEMORY OF THE NODE  IN USE   REQUESTS  LIMIT
shop/db-0/db             1500MiB  -         2000MiB

NOT KNOWN
domain     the cgroup was removed before its files were read
";
    assert_eq!(text(&kill(), now(), false), expected);
}

#[test]
fn arguments_are_shown_or_why_they_are_not() {
    let mut kill = kill();
    kill["arguments"] = json!([
        {"pid": 4711, "text": "web: GET /cart\u{202e}", "cut": true, "missing": null},
        {"pid": 4700, "text": null, "cut": false, "missing": "not-in-memory"},
    ]);
    let expected = "
PID   ARGUMENTS AT DEATH
4711  web: GET /cart\\u{202e} …
4700  not known: not-in-memory
";
    assert!(text(&kill, now(), false).contains(expected), "{}", text(&kill, now(), false));
    kill["scene"] = Value::Null;
    assert!(text(&kill, now(), false).ends_with(expected), "{}", text(&kill, now(), false));
}

#[test]
fn a_kill_without_a_scene_says_so() {
    let mut old = kill();
    old["scene"] = Value::Null;
    let text = text(&old, now(), false);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("is not kept"), "{text}");
}
