use super::*;
use crate::serve::access::authority::Authority;
use herder_model::rules::{matching::Policy, parse::Config};
use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};
use tokio::time::timeout;

struct Case {
    directory: PathBuf,
    reporter: Arc<Reporter>,
    taken: watch::Receiver<Access>,
    /// The rules that are in force: none.
    policies: watch::Sender<Arc<Policy>>,
}

impl Case {
    /// Watches `web.yaml` in a directory that has been filled.
    fn start(name: &str, fill: impl FnOnce(&Path)) -> Self {
        let directory = std::env::temp_dir()
            .join(format!("herder-access-reload-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        fill(&directory);
        let path = directory.join("web.yaml");
        let loaded = AccessFiles::read(&path, read_text);
        let (taken, followed) = watch::channel(loaded.take().unwrap());
        let reporter = Arc::<Reporter>::default();
        let hangup = signal(SignalKind::hangup()).unwrap();
        let reload = AccessReload { path, loaded, hangup, taken };
        let (policies, rules) = watch::channel(Arc::default());
        tokio::spawn(reload.watch(reporter.clone(), Rules::new(false, rules)));
        Case { directory, reporter, taken: followed, policies }
    }

    /// What is taken next; none if there is nothing for two seconds.
    async fn next(&mut self) -> Option<(bool, bool)> {
        let changed = timeout(Duration::from_secs(2), self.taken.changed()).await;
        changed.is_ok().then(|| asks_for(&self.taken.borrow_and_update()))
    }

    fn counted(&self, result: &str, count: u64) -> bool {
        self.shows(&format!("herder_web_config_reloads_total{{result=\"{result}\"}} {count}"))
    }

    /// Whether what was read last is in force.
    fn last_successful(&self, value: u8) -> bool {
        self.shows(&format!("herder_web_config_last_reload_successful {value}"))
    }

    fn shows(&self, line: &str) -> bool {
        let text = String::from_utf8(self.reporter.metrics().exposition().0).unwrap();
        text.lines().any(|found| found == line)
    }

    async fn counts(&self, result: &str, count: u64) {
        let counted = async {
            while !self.counted(result, count) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(3), counted).await.expect(result);
    }
}

/// Whether TLS is in force, and passwords are.
fn asks_for(access: &Access) -> (bool, bool) {
    let in_force = access.in_force();
    (in_force.tls, in_force.users > 0)
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test]
async fn a_broken_file_keeps_what_was_in_force() {
    let mut case = Case::start("broken", |directory| {
        fs::write(directory.join("web.yaml"), "{}").unwrap();
    });
    let file = case.directory.join("web.yaml");
    let hash = bcrypt::hash("x", 4).unwrap();
    fs::write(&file, format!("basic_auth_users: {{a: {hash}}}")).unwrap();
    assert_eq!(case.next().await, Some((false, true)));
    assert!(case.counted("ok", 1) && case.last_successful(1));
    for (number, broken) in ["basic_auth_users: {a: x}", "", "basic: {}"].into_iter().enumerate() {
        fs::write(&file, broken).unwrap();
        case.counts("error", number as u64 + 1).await;
        assert!(case.last_successful(0));
    }
    assert_eq!(asks_for(&case.taken.borrow()), (false, true), "the port did not open");
    fs::write(&file, "{}").unwrap();
    assert_eq!(case.next().await, Some((false, false)));
    case.counts("ok", 2).await;
    assert!(case.last_successful(1));
}

#[tokio::test]
async fn a_port_does_not_open_while_a_rule_keeps_arguments() {
    let hash = bcrypt::hash("x", 4).unwrap();
    let closed = format!("basic_auth_users: {{a: {hash}}}");
    let mut case = Case::start("exposing", |directory| {
        fs::write(directory.join("web.yaml"), &closed).unwrap();
    });
    let rules = "rules: [{name: a, cgroups: [/a], oomGroup: group, victimArguments: true}]";
    let policy = |rules| Arc::new(Policy::new(Config::parse(rules, "rules").unwrap()));
    case.policies.send_replace(policy(rules));
    let file = case.directory.join("web.yaml");
    fs::write(&file, "{}").unwrap();
    case.counts("error", 1).await;
    assert_eq!(asks_for(&case.taken.borrow()), (false, true), "the port did not open");
    case.policies.send_replace(policy("rules: []"));
    assert_eq!(case.next().await, Some((false, false)), "the same file, when no rule does");
}

/// As the kubelet renews what a Secret has: another directory behind one link.
#[tokio::test]
async fn a_certificate_that_is_renewed_is_taken() {
    let authority = Authority::new("ca");
    let renew = |directory: &Path, version: &str| {
        let (identity, version) = (authority.certify(&["localhost"]), directory.join(version));
        fs::create_dir_all(&version).unwrap();
        fs::write(version.join("tls.crt"), identity.certificate).unwrap();
        fs::write(version.join("tls.key"), identity.key).unwrap();
        let next = directory.join("..next");
        symlink(&version, &next).unwrap();
        fs::rename(next, directory.join("..data")).unwrap();
    };
    let mut case = Case::start("renewed", |directory| {
        let secret = directory.join("secret");
        fs::create_dir_all(&secret).unwrap();
        renew(&secret, "..1");
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), secret.join(name)).unwrap();
        }
        let text = "tls_server_config: {cert_file: secret/tls.crt, key_file: secret/tls.key}";
        fs::write(directory.join("web.yaml"), text).unwrap();
    });
    sleep(Duration::from_millis(50)).await;
    assert!(case.last_successful(1), "before any change");
    renew(&case.directory.join("secret"), "..2");
    assert_eq!(case.next().await, Some((true, false)));
    assert!(case.counted("ok", 1) && case.counted("error", 0));
    // A key that does not fit yet.
    let other = authority.certify(&["localhost"]);
    let now = case.directory.join("secret/..2");
    fs::write(now.join("tls.key"), other.key).unwrap();
    case.counts("error", 1).await;
    fs::write(now.join("tls.crt"), other.certificate).unwrap();
    assert_eq!(case.next().await, Some((true, false)));
}
