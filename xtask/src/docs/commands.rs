//! Commands that documents give: the parser of the program that a command starts must take it.

use super::{documents, kubectl};
use clap::Parser;
use herder_agent::cli::args::Cli;

/// What documents start, and how the words of a command begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Agent,
    Plugin,
    Xtask,
}

/// The lines that a reader types, and the commands that stand in a sentence.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 0 {
            found.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
        } else if let Some(block) = part.strip_prefix("console\n") {
            let typed =
                |line: &str| Some(line.strip_prefix("$ ").or(line.strip_prefix("# "))?.to_owned());
            found.extend(block.lines().filter_map(typed));
        }
    }
    found
}

/// The words of the first command of ours in a line, without what the shell takes for itself.
fn words(line: &str) -> Option<(Program, Vec<&str>)> {
    let words = line.split_whitespace().take_while(|word| !["#", "&", "|"].contains(word));
    let words: Vec<_> = words.collect();
    let tasks = ["run", "check", "kills", "explain", "containers", "self"];
    for (place, pair) in words.windows(2).enumerate() {
        let program = match pair {
            [program, task]
                if program.trim_start_matches('/') == "herder-agent" && tasks.contains(task) =>
            {
                Program::Agent
            }
            ["kubectl", "herder"] if words.len() > place + 2 => Program::Plugin,
            ["cargo", "xtask"] if words.len() > place + 2 => Program::Xtask,
            _ => continue,
        };
        let from = if program == Program::Agent { place } else { place + 1 };
        return Some((program, words.get(from..)?.to_vec()));
    }
    None
}

fn taken(program: Program, words: &[&str]) -> Result<(), clap::Error> {
    match program {
        Program::Agent => Cli::try_parse_from(words).map(drop),
        Program::Plugin => kubectl::Cli::try_parse_from(words).map(drop),
        Program::Xtask => crate::Cli::try_parse_from(words).map(drop),
    }
}

#[test]
fn commands_in_documents_are_taken() {
    let mut counts = [0; 3];
    for (path, text) in documents() {
        for line in commands(&text) {
            let Some((program, words)) = words(&line) else { continue };
            let result = taken(program, &words);
            assert!(result.is_ok(), "{}: {line}: {}", path.display(), result.unwrap_err());
            counts[program as usize] += 1;
        }
    }
    assert!(counts[0] > 20 && counts[1] > 2 && counts[2] > 20, "{counts:?}");
    let (program, bad) =
        words("kubectl exec x -- /herder-agent kills --folow # a comment").unwrap();
    assert_eq!((program, &bad[1..]), (Program::Agent, &["kills", "--folow"][..]));
    assert!(taken(program, &bad).is_err());
}
