//! Bundles as the runtimes write them, and what else may be in their place.

use super::*;
use std::fs;

/// A directory of bundles.
struct Fake(PathBuf);

impl Fake {
    fn new(name: &str) -> Self {
        let root =
            std::env::temp_dir().join(format!("herder-bundles-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Fake(root)
    }

    /// The place of a file of the bundle of this letter.
    fn file(&self, letter: char, file: &str) -> PathBuf {
        let path = self.0.join(id(letter).to_string()).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn look(&self, letter: char) -> Looked {
        Bundles::new(self.0.clone()).look(id(letter))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(letter: char) -> ContainerId {
    ContainerId::parse(&letter.to_string().repeat(64)).unwrap()
}

/// In a word what was found.
fn word(looked: &Looked) -> String {
    match looked {
        Looked::Role(ContainerRole::Sandbox) => "sandbox".into(),
        Looked::Role(ContainerRole::Container(name)) => name.to_string(),
        Looked::NotYet => "not yet".into(),
        Looked::Nothing => "nothing".into(),
        Looked::Unreadable(error) => error.to_string(),
    }
}

const CONTAINERD: &str = r#"{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.container-name":"worker"}}"#;
const CRIO: &str = r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.container.name":"worker"}}"#;

#[test]
fn annotations_of_both_runtimes() {
    let containerd_sandbox = r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"pod"}}"#;
    let nameless = r#"{"annotations":{"io.kubernetes.cri.container-type":"container"}}"#;
    let table = [
        (CONTAINERD, Layout::Containerd, "worker"),
        (containerd_sandbox, Layout::Containerd, "sandbox"),
        (CRIO, Layout::CriO, "worker"),
        (nameless, Layout::Containerd, "nothing"),
        (r#"{"ociVersion":"1.1.0"}"#, Layout::Containerd, "nothing"),
    ];
    for (text, layout, expected) in table {
        assert_eq!(word(&parse(text.as_bytes(), layout).unwrap()), expected, "{text}");
    }
    let of_length = |length: usize| {
        let text = CONTAINERD.replace("worker", &"n".repeat(length));
        parse(text.as_bytes(), Layout::Containerd).unwrap()
    };
    assert!(matches!(of_length(LONGEST_NAME), Looked::Role(_)));
    assert!(matches!(of_length(LONGEST_NAME + 1), Looked::Nothing), "it is no container's name");
}

/// A pod's annotations are in CRI-O's bundles beside its own.
#[test]
fn the_other_runtimes_annotations_say_nothing() {
    let forged = r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.container-name":"x","io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.container.name":"worker"}}"#;
    assert_eq!(word(&parse(forged.as_bytes(), Layout::CriO).unwrap()), "worker");
    assert_eq!(word(&parse(CONTAINERD.as_bytes(), Layout::CriO).unwrap()), "nothing");
    assert_eq!(word(&parse(CRIO.as_bytes(), Layout::Containerd).unwrap()), "nothing");
}

#[test]
fn a_bundle_is_found_by_the_id_of_its_container() {
    let fake = Fake::new("found");
    fs::write(fake.file('a', "config.json"), CONTAINERD).unwrap();
    fs::write(fake.file('f', "userdata/config.json"), CRIO).unwrap();
    fs::write(fake.file('b', "config.json"), "{").unwrap();
    fs::write(fake.file('e', "config.json"), "").unwrap();
    let found = ['a', 'f', 'b', 'e', 'c'].map(|letter| word(&fake.look(letter)));
    assert_eq!(found, ["worker", "worker", "not yet", "not yet", "not yet"]);
    fs::remove_dir_all(&fake.0).unwrap();
    assert!(matches!(fake.look('a'), Looked::Nothing), "there is no directory of bundles");
}

#[test]
fn what_cannot_be_read_is_named_at_once() {
    let fake = Fake::new("unreadable");
    let odd = r#"{"annotations":{"io.kubernetes.cri.container-type":3}}"#;
    fs::write(fake.file('a', "config.json"), odd).unwrap();
    fs::create_dir(fake.file('b', "config.json")).unwrap();
    let pipe = fake.file('c', "config.json");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    File::create(fake.file('d', "config.json")).unwrap().set_len(LARGEST + 1).unwrap();
    std::os::unix::fs::symlink("config.json", fake.file('e', "config.json")).unwrap();
    for (letter, why) in [
        ('a', "is not what a runtime writes: invalid type"),
        ('b', "is not a regular file"),
        ('c', "is not a regular file"),
        ('d', "has more than 4 MiB"),
        ('e', "cannot read"),
    ] {
        let found = word(&fake.look(letter));
        let path = fake.file(letter, "config.json").display().to_string();
        assert!(found.contains(why) && found.contains(&path), "{found}");
    }
}
