//! Runs the scripts beside this file, and those in docs/query-language.md. See README.md here for how they read.
//!
//! `KYMO_WRITE_EXPECTED=1 cargo test --test queries` writes what Kymo answers into the scripts: look at every line of it.

mod script;
mod server;

use script::{Expect, Step, What, read};
use server::{Failure, Server, nanoseconds};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Floats may differ by this much of their size.
const TOLERANCE: f64 = 1e-9;

/// Runs steps on a server, and says for each whether it went as expected, and what there was.
fn run(
    server: &mut Server,
    file: &str,
    steps: &[Step],
    failures: &mut Vec<String>,
) -> Vec<Option<Vec<String>>> {
    let mut given = Vec::new();
    for step in steps {
        let answer = match &step.what {
            What::Clear => {
                *server = Server::new();
                given.push(None);
                continue;
            }
            What::Now(text) => {
                server.now = nanoseconds(text).unwrap_or_else(|| panic!("{file}:{}: no time", step.line));
                given.push(None);
                continue;
            }
            What::TextTimes(on) => {
                server.text_times = *on;
                given.push(None);
                continue;
            }
            What::Load(into, lines) => server.load(into, lines).map(|()| Vec::new()),
            What::Eval(text) => server.ask(text),
        };
        if let Some(wrong) = difference(step, &answer) {
            let what = match &step.what {
                What::Eval(text) => text.as_str(),
                _ => "load",
            };
            failures.push(format!("{file}:{}: {what}\n{wrong}", step.line));
        }
        given.push(Some(written(&step.what, answer)));
    }
    given
}

/// What an answer looks like in a script.
fn written(what: &What, answer: Result<Vec<String>, Failure>) -> Vec<String> {
    match answer {
        Ok(_) if matches!(what, What::Load(..)) => Vec::new(),
        Ok(lines) if lines.is_empty() => vec!["expect nothing".into()],
        Ok(lines) => std::iter::once("expect".to_string())
            .chain(lines.into_iter().map(|line| format!("  {line}")))
            .collect(),
        Err(failure) => {
            let mut out = vec![format!("expect error {}", failure.text.replace('\n', " "))];
            out.extend(failure.hint.map(|hint| format!("expect hint {hint}")));
            out
        }
    }
}

fn difference(step: &Step, answer: &Result<Vec<String>, Failure>) -> Option<String> {
    let load = matches!(step.what, What::Load(..));
    match (&step.expect, answer) {
        (Expect::Unsaid, Ok(_)) if load => None,
        // A statement that changes something gives nothing; all others must say what they give.
        (Expect::Unsaid | Expect::Nothing, Ok(lines)) if lines.is_empty() => None,
        (Expect::Error { text, hint }, Err(failure)) => {
            let same = *text == failure.text.replace('\n', " ") && (hint.is_none() || *hint == failure.hint);
            (!same).then(|| format!("  expected error {text}\n  hint {hint:?}\n  got {failure:?}"))
        }
        (Expect::Tables(want), Ok(got)) => {
            let same =
                want.len() == got.len() && want.iter().zip(got).all(|(want, got)| same_line(want, got));
            (!same).then(|| {
                format!(
                    "  expected\n    {}\n  got\n    {}",
                    want.join("\n    "),
                    got.join("\n    ")
                )
            })
        }
        (want, got) => Some(format!("  expected {want:?}\n  got {got:?}")),
    }
}

fn same_line(want: &str, got: &str) -> bool {
    if !want.starts_with('|') {
        return want == got;
    }
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_string()).collect() };
    let (want, got) = (cells(want), cells(got));
    want.len() == got.len() && want.iter().zip(&got).all(|(want, got)| same_cell(want, got))
}

fn same_cell(want: &str, got: &str) -> bool {
    want == got
        || match (want.parse::<f64>(), got.parse::<f64>()) {
            (Ok(a), Ok(b)) => a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
            _ => false,
        }
}

/// Puts what there was into the places of what was expected.
fn rewrite(lines: &[String], steps: &[Step], given: &[Option<Vec<String>>]) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    for (step, given) in steps.iter().zip(given) {
        let Some(given) = given else { continue };
        let (from, to) = (step.expected.0, step.expected.1);
        out.extend_from_slice(&lines[at..from]);
        out.extend_from_slice(given);
        at = to;
    }
    out.extend_from_slice(&lines[at..]);
    out
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/queries")
}

fn writing() -> bool {
    std::env::var_os("KYMO_WRITE_EXPECTED").is_some()
}

fn end(failures: Vec<String>) {
    assert!(
        failures.is_empty() || writing(),
        "{} of the answers are not as expected:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

#[test]
fn scripts() {
    let mut failures = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of this file")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "only {} scripts", files.len());
    for path in files {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("a script");
        let steps = read(&text, 1);
        let asked = steps
            .iter()
            .filter(|step| matches!(step.what, What::Eval(_)))
            .count();
        assert!(asked > 0, "{name} asks nothing");
        let mut server = Server::new();
        let given = run(&mut server, &name, &steps, &mut failures);
        if writing() {
            let lines: Vec<String> = text.lines().map(str::to_string).collect();
            let new = rewrite(&lines, &steps, &given).join("\n") + "\n";
            std::fs::write(&path, new).expect("a script to write");
        }
    }
    end(failures);
}

/// A script in the text of a document: the number of its first line, from 1, and its lines.
fn blocks(lines: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut out = Vec::new();
    let mut open: Option<(usize, Vec<String>)> = None;
    for (at, line) in lines.iter().enumerate() {
        match (line.as_str(), &mut open) {
            ("```kymo", _) => open = Some((at + 2, Vec::new())),
            ("```", Some(_)) => out.extend(open.take()),
            (_, Some((_, block))) => block.push(line.clone()),
            _ => {}
        }
    }
    out
}

/// The names of all functions that are called in an expression or statement.
fn calls(text: &str, into: &mut BTreeSet<String>) {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (at, _) in text.match_indices('(') {
        let before = &text[..at];
        let from = before.rfind(|c| !name(c)).map_or(0, |i| i + 1);
        into.insert(before[from..].to_string());
    }
}

#[test]
fn examples_of_the_document() {
    let shown = examples_of("query-language.md");
    let missing: Vec<&str> = kymo::query::functions::names()
        .filter(|name| !shown.contains(*name))
        .collect();
    assert!(
        missing.is_empty() || writing(),
        "functions without an example: {missing:?}"
    );
}

#[test]
fn examples_of_rollups() {
    assert!(!examples_of("rollups.md").is_empty());
}

/// Runs the examples of a document: the names of functions whose results they show.
fn examples_of(name: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read_to_string(&path).expect("the document");
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let mut server = Server::new();
    let (mut failures, mut shown) = (Vec::new(), BTreeSet::new());
    // What is written anew changes the number of lines: from the end back.
    let mut replaced = Vec::new();
    for (first, block) in blocks(&lines) {
        let steps = read(&block.join("\n"), first);
        let given = run(&mut server, name, &steps, &mut failures);
        for step in &steps {
            // An answer of a name and columns alone shows nothing.
            if let (What::Eval(text), Expect::Tables(rows)) = (&step.what, &step.expect)
                && rows.len() > 2
            {
                calls(text, &mut shown);
            }
        }
        replaced.push((first - 1, block.len(), rewrite(&block, &steps, &given)));
    }
    if writing() {
        for (at, count, new) in replaced.into_iter().rev() {
            lines.splice(at..at + count, new);
        }
        std::fs::write(&path, lines.join("\n") + "\n").expect("the document to write");
    }
    end(failures);
    shown
}
