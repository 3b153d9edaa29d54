//! Reads the file that `--config` names. `rules::parse` of the model parses it.

use super::telemetry::SwitchError;
use herder_model::rules::parse::{Config, InvalidConfig};
use ring::digest::{SHA256, digest};
use std::{
    fmt::Write,
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// `O_NONBLOCK`, in the type that the standard library takes.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Largest file that is read, bytes. ConfigMaps hold at most 1 MiB.
const LARGEST: u64 = 1 << 20;

/// How many bytes of the file's SHA-256 name it: enough for files that people write, few enough
/// to read.
const NAMED_BY: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("the configuration {path} is empty; write `rules: []` for no rules")]
    Emptied { path: String },
    #[error(transparent)]
    LogLevel(#[from] SwitchError),
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
}

#[derive(Debug, Default)]
pub struct Loaded {
    pub config: Config,
    pub hash: String,
}

pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = read(path)?;
    let config = Config::parse(&text, &path.display().to_string())?;
    Ok(Loaded { config, hash: hash(&text) })
}

/// What the file is named by, so that two agents can be seen to have the same: what
/// `sha256sum FILE | cut -c1-16` prints.
pub fn hash(text: &str) -> String {
    let all = digest(&SHA256, text.as_bytes());
    all.as_ref().iter().take(NAMED_BY).fold(String::new(), |mut hash, byte| {
        // A String takes whatever is written to it.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// The text of a file, of which there may be at most a MiB.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.display().to_string(), source };
    read_text(path).map_err(failed)
}

/// The text of any file that the agent is given, with the same bounds.
pub fn read_text(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for a writer.
    let file = fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // Not more than that, whatever the file is and however it grows.
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        let size = metadata.len();
        return Err(io::Error::other(format!("{size} bytes; at most {LARGEST} are read")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::other(format!("byte {at} is not UTF-8 text; save the file as UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_text_is_named_with_what_to_do() {
        let path = std::env::temp_dir().join(format!("herder-config-{}", std::process::id()));
        let error = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            load(&path).unwrap_err().to_string()
        };
        assert!(error(b"rules: []\n# caf\xe9\n").contains("byte 15 is not UTF-8"));
        assert!(error(&vec![b' '; (1 << 20) + 1]).contains("1048577 bytes"));
        std::fs::remove_file(&path).unwrap();
        assert!(load(Path::new("/dev/null")).unwrap_err().to_string().contains("regular file"));
    }

    /// The figures are those of sha256sum.
    #[test]
    fn a_file_is_named_by_its_sha256() {
        assert_eq!(hash(""), "e3b0c44298fc1c14");
        assert_eq!(hash("rules: []\n"), "e0dfa70eb69d47fe");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Path::new("/nonexistent/rules.yaml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/rules.yaml"), "{error}");
    }
}
