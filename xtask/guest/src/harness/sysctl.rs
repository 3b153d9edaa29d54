//! A setting of the kernel that a test changes, and which is as before when the test ends.

use std::fs;

/// A sysctl that has another value for a while.
pub struct Sysctl {
    path: String,
    before: String,
}

impl Sysctl {
    pub fn set(name: &str, value: &str) -> Self {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, value).unwrap();
        Sysctl { path, before }
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        fs::write(&self.path, &self.before).unwrap();
    }
}
