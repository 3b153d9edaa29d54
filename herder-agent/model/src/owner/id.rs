//! The two ids that tie a cgroup to a pod, as small `Copy` values: every pod,
//! container and cgroup carries them, so their size counts.

use serde::{Serialize, Serializer};
use std::fmt;

/// A pod's uid as its cgroup carries it: the API's UUID, or for a static pod
/// what its manifest says, and else the hash of the manifest. The API shows both
/// as the annotation `kubernetes.io/config.hash` of the mirror pod
/// (`applyDefaults()`, pkg/kubelet/config/common.go, Kubernetes 1.28 to 1.36).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodUid {
    /// A UUID, `8-4-4-4-12` lower-case hex digits.
    Uuid([u8; 16]),
    /// 32 lower-case hex digits.
    ConfigHash([u8; 16]),
    /// Any other text, which only the manifest of a static pod can have chosen.
    Word(Word),
}

/// A uid that is neither a UUID nor a hash, at most [`LONGEST_WORD`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word {
    length: u8,
    /// The rest is 0.
    text: [u8; LONGEST_WORD],
}

/// The longest uid that is read. A digest of 256 bits fits.
const LONGEST_WORD: usize = 64;

/// A container's or a sandbox's id in the runtime: 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId([u8; 32]);

impl PodUid {
    /// Reads a uid that the API server or the kubelet has generated.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == 32 {
            return hex(text.bytes()).map(PodUid::ConfigHash);
        }
        let dashes_fit = text.len() == 36
            && text
                .bytes()
                .enumerate()
                .all(|(at, byte)| matches!(at, 8 | 13 | 18 | 23) == (byte == b'-'));
        if !dashes_fit {
            return None;
        }
        hex(text.bytes().filter(|byte| *byte != b'-')).map(PodUid::Uuid)
    }

    /// Reads any uid that the kubelet can make a cgroup for, as the cgroupfs driver
    /// writes it. It has no `_` (`NewCgroupName()`, pkg/kubelet/cm/cgroup_manager_linux.go).
    pub fn parse_any(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| Word::parse(text).map(PodUid::Word))
    }

    /// Reads any uid as the systemd driver writes it, where `_` stands for `-`
    /// (`escapeSystemdCgroupName()`, in the same file).
    pub fn parse_systemd(text: &str) -> Option<Self> {
        if text.contains('-') {
            return None;
        }
        Self::parse_any(&text.replace('_', "-"))
    }
}

impl Word {
    fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
        if text.is_empty() || !text.bytes().all(allowed) {
            return None;
        }
        let mut bytes = [0; LONGEST_WORD];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Word { length: u8::try_from(text.len()).ok()?, text: bytes })
    }

    fn as_str(&self) -> &str {
        let text = self.text.get(..self.length.into()).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }
}

impl ContainerId {
    /// Reads an id as cgroup names carry it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        hex(text.bytes()).map(ContainerId)
    }

    /// Reads `containerID` of a container status, `<runtime>://<id>`
    /// (`ContainerID.String()`, pkg/kubelet/container/runtime.go).
    pub fn parse_status(text: &str) -> Option<Self> {
        let (runtime, id) = text.split_once("://")?;
        if runtime.is_empty() {
            return None;
        }
        Self::parse(id)
    }
}

/// Exactly `2 * N` lower-case hex digits.
fn hex<const N: usize>(mut digits: impl Iterator<Item = u8>) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for byte in &mut bytes {
        *byte = nibble(digits.next()?)? << 4 | nibble(digits.next()?)?;
    }
    digits.next().is_none().then_some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, dashes) = match self {
            PodUid::Uuid(bytes) => (bytes, true),
            PodUid::ConfigHash(bytes) => (bytes, false),
            PodUid::Word(word) => return f.write_str(word.as_str()),
        };
        for (at, byte) in bytes.iter().enumerate() {
            if dashes && matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for PodUid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ContainerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_come_back_as_they_were_written() {
        for text in ["2c39abf0-f543-4c05-8cfe-3839410aef01", "ca0757b5d25d60b3db9d57dce6d10c2d"] {
            assert_eq!(PodUid::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            PodUid::parse_systemd("2c39abf0_f543_4c05_8cfe_3839410aef01"),
            PodUid::parse("2c39abf0-f543-4c05-8cfe-3839410aef01")
        );
    }

    #[test]
    fn what_is_no_uid_is_refused() {
        for text in [
            "",
            "2c39abf0-f543-4c05-8cfe-3839410aef0",
            "2c39abf0_f543_4c05_8cfe_3839410aef01",
            "2C39ABF0-f543-4c05-8cfe-3839410aef01",
            "2c39abf0ff543-4c05-8cfe-3839410aef01",
            "2c39abf0-f543-4c05-8cfe-3839410ae-01",
            "ca0757b5d25d60b3db9d57dce6d10c2g",
            "ca0757b5d25d60b3db9d57dce6d10c2d0",
            "ca0757b5d25d60b3db9d57dce6d10cé",
        ] {
            assert_eq!(PodUid::parse(text), None, "{text:?}");
        }
        assert_eq!(PodUid::parse_systemd("2c39abf0-f543-4c05-8cfe-3839410aef01"), None);
    }

    /// A manifest may say what it likes in `uid:`.
    #[test]
    fn explicit_uids_are_read_in_both_forms() {
        let digest = "5f".repeat(32);
        for text in [
            "2c39abf0-f543-4c05-8cfe-3839410aef01",
            "2C39ABF0-F543-4C05-8CFE-3839410AEF01",
            "ca0757b5d25d60b3db9d57dce6d10c2d",
            "CA0757B5D25D60B3DB9D57DCE6D10C2D",
            "etcd",
            "kube-apiserver-v1.36",
            "a",
            "1",
            "-",
            &digest,
        ] {
            let uid = PodUid::parse_any(text).unwrap();
            assert_eq!(uid.to_string(), text);
            assert_eq!(PodUid::parse_systemd(&text.replace('-', "_")), Some(uid), "{text}");
            assert_eq!(serde_json::to_value(uid).unwrap(), text);
        }
        let generated = "2c39abf0-f543-4c05-8cfe-3839410aef01";
        assert_eq!(PodUid::parse_any(generated), PodUid::parse(generated));
    }

    #[test]
    fn what_no_kubelet_makes_a_cgroup_for_is_refused() {
        let long = "x".repeat(65);
        for text in ["", "a_b", "a/b", "a b", "é", "a\nb", "\"", "a\0", &long] {
            assert_eq!(PodUid::parse_any(text), None, "{text:?}");
        }
        for text in ["", "a-b", "é"] {
            assert_eq!(PodUid::parse_systemd(text), None, "{text:?}");
        }
    }

    #[test]
    fn status_ids_have_a_runtime_in_front() {
        let id = "51c89318749f37429d5fa724d212f00472bced49ff32a7674085aba73d1992eb";
        let parsed = ContainerId::parse(id).unwrap();
        assert_eq!(parsed.to_string(), id);
        assert_eq!(ContainerId::parse_status(&format!("containerd://{id}")), Some(parsed));
        assert_eq!(ContainerId::parse_status(&format!("cri-o://{id}")), Some(parsed));
        for bad in [
            String::new(),
            id.to_owned(),
            format!("://{id}"),
            "containerd://".to_owned(),
            format!("containerd://{id}0"),
        ] {
            assert_eq!(ContainerId::parse_status(&bad), None, "{bad:?}");
        }
    }
}
