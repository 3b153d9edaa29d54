//! The file, and a real server that keeps to it.

mod changes;
mod file;
mod served;

use super::{authority::Authority, *};
use std::fs;

/// A directory of a test, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("herder-access-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Directory(directory)
    }

    /// With an authority's certificate of this machine in it.
    fn certified(name: &str, authority: &Authority) -> Self {
        let directory = Self::new(name);
        let identity = authority.certify(&["localhost", "127.0.0.1"]);
        directory.write("tls.crt", &identity.certificate);
        directory.write("tls.key", &identity.key);
        directory.write("ca.crt", &authority.pem());
        directory
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn take(&self, text: &str) -> Result<Access, String> {
        self.write("web.yaml", text);
        let taken =
            AccessFiles::read(&self.0.join("web.yaml"), |path| fs::read_to_string(path)).take();
        // A test must not depend on where it is.
        taken.map_err(|error| error.to_string().replace(&format!("{}/", self.0.display()), ""))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
