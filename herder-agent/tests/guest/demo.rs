//! A minute of Herder, for people: two containers alike, one of them matched.
pub fn run(_seconds: u64) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
