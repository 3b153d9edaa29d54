//! Running other programs with errors that name them, and where things are kept.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsStr,
    fs::File,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// The workspace.
pub fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Where tasks put what they make: `target/herder`.
pub fn output() -> Result<PathBuf> {
    made(workspace().join("target/herder"))
}

/// Where kernels and tools are kept from run to run: `$XDG_CACHE_HOME/herder`.
pub fn cache() -> Result<PathBuf> {
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    made(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("herder"))
}

/// The directory, made if it was not there.
pub fn made(directory: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// Whether something of the cache is there and was made of just this. An xtask of before, or of
/// after, keeps other things under the same name.
pub fn kept_of(place: &Path, of: &str) -> bool {
    place.exists() && std::fs::read_to_string(note(place)).is_ok_and(|noted| noted == of)
}

/// Puts in its place what was made beside it, and notes of what.
pub fn keep_of(place: &Path, part: &Path, of: &str) -> Result<()> {
    let keep = || {
        if place.exists() {
            std::fs::remove_dir_all(place)?;
        }
        std::fs::rename(part, place)?;
        std::fs::write(note(place), of)
    };
    keep().with_context(|| format!("cannot put {} in its place", place.display()))
}

fn note(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".made-of");
    place.with_file_name(name)
}

/// Waits until no other task, of this process or another, has the directory for itself.
/// It is free again when the file is closed.
pub fn alone_in(directory: &Path) -> Result<File> {
    let path = made(directory.to_path_buf())?.join("herder.lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// A program without what an outer cargo or rustup put into the environment.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    for variable in
        ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"]
    {
        command.env_remove(variable);
    }
    command
}

/// git about a repository, whichever user owns its files: a container's root finds the checkout
/// to be another user's, and git would say nothing of it.
pub fn git(repository: &Path) -> Command {
    let mut git = program("git");
    git.current_dir(repository).arg("-c").arg(format!("safe.directory={}", repository.display()));
    git
}

/// A program that does not outlive this one, however this ends: the kernel kills it when the thread
/// that has started it is gone. Without that, what only a destructor ends runs on after a SIGKILL,
/// with every file and lock that it has inherited.
pub fn tied(name: impl AsRef<OsStr>) -> Command {
    let mut command = program("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(name);
    command
}

/// How a command would be typed.
pub fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs it with its output on the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let line = typed(command);
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs it and says how long it took.
pub fn run_timed(what: &str, command: &mut Command) -> Result<()> {
    say(&format!("{what} …"));
    let began = Instant::now();
    run(command)?;
    say(&format!("{what}: {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// What it prints; none if it cannot be run or fails.
pub fn asked(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether standard output is to have colours (https://no-color.org).
pub fn colours() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

/// Prints what a task does.
pub fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Whether this is root on a Debian machine, where missing programs can be had.
pub fn can_install() -> bool {
    let root = asked(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    root && Path::new("/etc/debian_version").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        io::{BufRead, BufReader},
        thread::sleep,
        time::Duration,
    };

    /// Waits until a process is called so, or is no more (`None`).
    fn wait_until(pid: &str, name: Option<&str>) {
        for _ in 0..3000 {
            // A process that is dead and not waited for is as good as gone.
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let is_dead = status.is_empty() || status.contains("State:\tZ");
            let is_so = |name| status.contains(&format!("Name:\t{name}\n"));
            if name.map_or(is_dead, |name| !is_dead && is_so(name)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("{pid} is not {name:?}");
    }

    #[test]
    fn git_reads_what_another_user_owns() {
        let repository = output().unwrap().join("of-another-user");
        let _ = fs::remove_dir_all(&repository);
        made(repository.clone()).unwrap();
        run(git(&repository).args(["init", "--quiet"])).unwrap();
        if std::os::unix::fs::chown(&repository, Some(1001), None).is_err() {
            eprintln!("not tried: it takes root");
            return;
        }
        let status = ["status", "--porcelain"];
        let plain = asked(program("git").current_dir(&repository).args(status));
        assert_eq!(plain, None, "git trusts it anyway");
        assert!(asked(git(&repository).args(status)).is_some());
    }

    #[test]
    fn what_was_made_of_something_else_is_made_again() {
        let place = output().unwrap().join("kept");
        let part = place.with_extension("part");
        let _ = fs::remove_dir_all(&place);
        let make = |of: &str| {
            made(part.clone()).unwrap();
            fs::write(part.join(of), "").unwrap();
            keep_of(&place, &part, of).unwrap();
        };
        made(place.clone()).unwrap();
        assert!(!kept_of(&place, "a b"), "one of before, which has no note");
        make("a b");
        assert!(kept_of(&place, "a b") && place.join("a b").exists());
        assert!(!kept_of(&place, "a b c"));
        make("a b c");
        assert!(kept_of(&place, "a b c") && !place.join("a b").exists());
        fs::remove_dir_all(&place).unwrap();
        assert!(!kept_of(&place, "a b c"), "it was removed");
    }

    /// The shell stands for xtask, and is killed as a test that hangs is.
    #[test]
    fn what_is_tied_ends_with_the_process_that_started_it() {
        let started = typed(tied("sleep").arg("600"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{started} & echo $!; exec sleep 500")]).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        wait_until(pid.trim(), Some("sleep"));
        shell.kill().unwrap();
        shell.wait().unwrap();
        wait_until(pid.trim(), None);
    }
}
