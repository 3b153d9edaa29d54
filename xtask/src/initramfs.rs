//! Writes an initramfs: an archive in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{Context, Result};
use std::{
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive in memory.
pub struct Initramfs {
    bytes: Vec<u8>,
    inode: u32,
}

impl Initramfs {
    /// With the directories that an init mounts on.
    pub fn new() -> Self {
        let mut archive = Initramfs { bytes: Vec::new(), inode: 0 };
        for directory in ["bin", "dev", "proc", "sys", "tmp", "run", "modules"] {
            archive.entry(directory, DIRECTORY, &[]);
        }
        archive
    }

    /// With a file system tree of the host as its root, without the directories
    /// that `left_out` names by their paths in the tree.
    pub fn over(root: &Path, left_out: &[&str]) -> Result<Self> {
        let mut archive = Initramfs { bytes: Vec::new(), inode: 0 };
        archive.tree(root, "", left_out)?;
        archive.entry("modules", DIRECTORY, &[]);
        Ok(archive)
    }

    fn tree(&mut self, root: &Path, below: &str, left_out: &[&str]) -> Result<()> {
        let directory = root.join(below);
        let mut entries = fs::read_dir(&directory)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        // The same archive from the same files.
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let file_name = entry.file_name();
            let name = format!("{below}{}", file_name.to_string_lossy());
            let about =
                entry.metadata().with_context(|| format!("cannot read {}", path.display()))?;
            if about.is_dir() && left_out.contains(&name.as_str()) {
                continue;
            }
            if about.is_dir() {
                self.entry(&name, about.mode(), &[]);
                self.tree(root, &format!("{name}/"), left_out)?;
            } else if about.is_symlink() {
                let target = fs::read_link(&path)?;
                self.entry(&name, about.mode(), target.as_os_str().as_bytes());
            } else if about.is_file() {
                let content =
                    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                self.entry(&name, about.mode(), &content);
            }
        }
        Ok(())
    }

    /// Adds a program or other file.
    pub fn add(&mut self, name: &str, file: &Path) -> Result<()> {
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.entry(name, PROGRAM, &content);
        Ok(())
    }

    /// Adds files to a new directory; none without any.
    pub fn add_files(&mut self, directory: &str, files: &[(&str, Vec<u8>)]) {
        if !files.is_empty() {
            self.entry(directory, DIRECTORY, &[]);
        }
        for (name, content) in files {
            self.entry(&format!("{directory}/{name}"), 0o100_644, content);
        }
    }

    /// Writes the archive to a file.
    pub fn write(mut self, to: &Path) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[]);
        fs::write(to, self.bytes).with_context(|| format!("cannot write {}", to.display()))
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            // Writing to a vector cannot fail.
            let _ = write!(self.bytes, "{field:08x}");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
