use super::*;
use crate::{
    cli::telemetry::tests::switch,
    serve::{Access, access::AccessFiles},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{advance, timeout},
};

const ONE: &str = "rules: [{name: one, cgroups: [/a], oomGroup: leave}]\n";
const TWO: &str = "rules: [{name: two, cgroups: [/a], oomGroup: leave}]\n";

/// A configuration file, and what others get when it changes.
struct Case {
    directory: PathBuf,
    file: PathBuf,
    policies: watch::Receiver<Arc<Policy>>,
    /// What the port asks of clients: nothing.
    access: watch::Sender<Access>,
    reporter: Arc<Reporter>,
    /// The filters of the log, in turn.
    levels: Arc<Mutex<Vec<String>>>,
}

impl Case {
    /// Watches a file that begins as [`ONE`].
    fn start(name: &str, make: impl FnOnce(&Path, &Path)) -> Self {
        let directory =
            std::env::temp_dir().join(format!("herder-reload-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("herder.yaml");
        make(&directory, &file);
        let (policies, followed) = watch::channel(Arc::default());
        let reporter = Arc::new(Reporter::default());
        let reload = (file.clone(), reporter.clone());
        let loaded = fs::read_to_string(&file).ok();
        let (access, asked) = watch::channel(Access::default());
        let (switch, levels) = switch();
        let log = Log { default: "warn".parse().unwrap(), switch };
        tokio::spawn(async move {
            let hangup = signal(SignalKind::hangup()).unwrap();
            let (path, guard) = (Some(&*reload.0), Guard::new(false, Some(asked)));
            let reload_of =
                Reload { path, loaded, hangup, policies, log, guard, is_exposed: false };
            reload_of.watch(reload.1).await;
        });
        Case { directory, file, policies: followed, access, reporter, levels }
    }

    /// The next policy that others get; none if there is none for two seconds.
    async fn next(&mut self) -> Option<Arc<Policy>> {
        timeout(Duration::from_secs(2), self.policies.changed()).await.ok()?.unwrap();
        Some(self.policies.borrow_and_update().clone())
    }

    fn metric(&self, line: &str) -> bool {
        let text = String::from_utf8(self.reporter.metrics().exposition().0).unwrap();
        text.lines().any(|found| found == line)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The level goes with the file: another one, none, and one that is wrong.
#[tokio::test]
async fn the_log_level_is_that_of_the_file_or_else_the_flags() {
    let mut case = Case::start("level", |_, file| fs::write(file, ONE).unwrap());
    let with = |level: &str| format!("{ONE}logLevel: {level}\n");
    fs::write(&case.file, with("debug")).unwrap();
    assert!(is(case.next().await, &with("debug")));
    fs::write(&case.file, TWO.to_owned() + "logLevel: inof\n").unwrap();
    assert!(case.next().await.is_none(), "the rules of a file with a wrong level are not taken");
    let shown = |case: &Case| case.reporter.config().map(|config| config.log_level.to_string());
    assert_eq!(shown(&case).as_deref(), Some("debug"), "the wrong level is not in force");
    fs::write(&case.file, ONE).unwrap();
    assert!(is(case.next().await, ONE));
    assert_eq!(shown(&case).as_deref(), Some("warn"));
    let levels = case.levels.lock().unwrap().clone();
    assert_eq!(levels, ["kube_client=off,debug", "kube_client=off,warn"]);
}

/// A fleet agrees if all have one hash, and no agent says that its file was rejected.
#[tokio::test]
async fn what_is_in_force_is_shown_and_whether_the_file_is() {
    let mut case = Case::start("hash", |_, file| fs::write(file, ONE).unwrap());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let info = |case: &Case| {
        let text = String::from_utf8(case.reporter.metrics().exposition().0).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("herder_config_info{"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let line = |text: &str| {
        let hash = config::hash(text);
        vec![format!("herder_config_info{{hash=\"{hash}\",log_level=\"warn\"}} 1")]
    };
    let began = now();
    fs::write(&case.file, TWO).unwrap();
    assert!(case.next().await.is_some());
    assert_eq!(info(&case), line(TWO));
    assert!(case.metric("herder_config_last_reload_successful 1"));
    let read = "herder_config_last_reload_success_timestamp_seconds";
    let read = |case: &Case| (began..=now()).any(|now| case.metric(&format!("{read} {now}")));
    assert!(read(&case));
    fs::write(&case.file, "rulez: []\n").unwrap();
    assert!(case.next().await.is_none());
    assert!(case.metric("herder_config_last_reload_successful 0"));
    assert_eq!(info(&case), line(TWO), "the earlier one is in force");
    // It is gone, and comes back as it is in force: that is a file again.
    fs::remove_file(&case.file).unwrap();
    assert!(case.next().await.is_none());
    assert!(case.metric("herder_config_last_reload_successful 0"));
    fs::write(&case.file, TWO).unwrap();
    assert!(case.next().await.is_some());
    assert!(case.metric("herder_config_last_reload_successful 1"));
    assert_eq!(info(&case), line(TWO));
}

/// What a rule may ask for depends on what the port asks of clients, in either order.
#[tokio::test]
async fn arguments_are_not_taken_up_where_everyone_can_ask() {
    let mut case = Case::start("exposed", |_, file| fs::write(file, ONE).unwrap());
    let asks = "rules: [{name: two, cgroups: [/a], oomGroup: group, victimArguments: true}]\n";
    fs::write(&case.file, asks).unwrap();
    assert!(case.next().await.is_none());
    assert!(case.metric("herder_config_last_reload_successful 0"));
    assert!(is(Some(case.policies.borrow().clone()), ""), "none was taken");
    let web = case.directory.join("web.yaml");
    let hash = bcrypt::hash("x", 4).unwrap();
    fs::write(&web, format!("basic_auth_users: {{a: {hash}}}")).unwrap();
    let files = AccessFiles::read(&web, |path| fs::read_to_string(path));
    assert!(files.asks_who_it_is().unwrap());
    case.access.send_replace(files.take().unwrap());
    assert!(is(case.next().await, asks), "the same file, once clients need a password");
    assert!(case.metric("herder_config_last_reload_successful 1"));
}

fn is(policy: Option<Arc<Policy>>, text: &str) -> bool {
    let wanted = Policy::new(Config::parse(text, "test").unwrap());
    policy.is_some_and(|policy| format!("{policy:?}") == format!("{wanted:?}"))
}

#[tokio::test]
async fn a_file_that_becomes_empty_is_refused_and_then_taken_when_it_is_whole() {
    let mut case = Case::start("empty", |_, file| fs::write(file, ONE).unwrap());
    for empty in ["", "\n", "# all: commented out\n"] {
        fs::write(&case.file, empty).unwrap();
        assert!(case.next().await.is_none(), "{empty:?}");
    }
    assert!(case.metric("herder_config_reloads_total{result=\"error\"} 3"));
    fs::write(&case.file, TWO).unwrap();
    assert!(is(case.next().await, TWO));
    fs::write(&case.file, "rules: []\n").unwrap();
    assert!(is(case.next().await, "rules: []"));
}

/// A slow writer: what is there in between is a valid file too.
#[tokio::test]
async fn a_file_that_is_still_being_written_is_not_taken() {
    let mut case = Case::start("slow", |_, file| fs::write(file, ONE).unwrap());
    let whole = "rules:\n- {name: one, cgroups: [/a], oomGroup: leave}\n- {name: two, cgroups: [/b], oomGroup: leave}\n";
    for (at, _) in whole.match_indices('\n') {
        fs::write(&case.file, &whole[..=at]).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(is(case.next().await, whole));
    assert!(!case.policies.has_changed().unwrap());
    assert!(case.metric("herder_config_reloads_total{result=\"error\"} 0"));
}

#[tokio::test]
async fn a_change_of_what_a_link_leads_to_is_noticed() {
    let mut case = Case::start("link", |directory, file| {
        fs::create_dir_all(directory.join("far")).unwrap();
        fs::write(directory.join("far/rules"), ONE).unwrap();
        symlink(directory.join("far/rules"), file).unwrap();
    });
    let target = case.directory.join("far/rules");
    tokio::time::sleep(Duration::from_millis(50)).await;
    fs::write(&target, TWO).unwrap();
    assert!(is(case.next().await, TWO), "the target is written");
    // The link leads elsewhere, and what it leads to then is written.
    fs::create_dir_all(case.directory.join("other")).unwrap();
    fs::write(case.directory.join("other/rules"), ONE).unwrap();
    fs::remove_file(&case.file).unwrap();
    symlink("other/rules", &case.file).unwrap();
    assert!(is(case.next().await, ONE), "the link is another");
    fs::write(case.directory.join("other/rules"), TWO).unwrap();
    assert!(is(case.next().await, TWO), "the new target is written");
}

/// A file without notifications is read too: here inotify does not see writes through
/// a descriptor that stays open.
#[tokio::test(start_paused = true)]
async fn what_nothing_announces_is_found_by_the_next_look() {
    use std::io::{Seek, Write};
    let mut case = Case::start("still-open", |_, file| fs::write(file, ONE).unwrap());
    advance(Duration::from_secs(1)).await;
    let mut file = fs::OpenOptions::new().write(true).open(&case.file).unwrap();
    file.write_all(TWO.as_bytes()).unwrap();
    file.rewind().unwrap();
    tokio::time::sleep(WATCHED + Duration::from_secs(1)).await;
    assert!(is(case.next().await, TWO));
}
