//! Scripts of what is loaded, asked and expected: see the README beside the scripts.

/// A part of a script, and where it stands.
#[derive(Debug)]
pub struct Step {
    /// Line of its first word, from 1.
    pub line: usize,
    pub what: What,
    /// Lines of the text that say what is expected, from and to; to be replaced when they are written anew.
    pub expected: (usize, usize),
    pub expect: Expect,
}

#[derive(Debug)]
pub enum What {
    /// An empty server.
    Clear,
    /// From now on this is now.
    Now(String),
    /// From now on times are shown as texts.
    TextTimes(bool),
    /// Lines of line protocol with their numbers, into `database[.policy]`.
    Load(String, Vec<(usize, String)>),
    /// A query.
    Eval(String),
}

#[derive(Debug, PartialEq)]
pub enum Expect {
    /// Nothing was said.
    Unsaid,
    Nothing,
    Error {
        text: String,
        hint: Option<String>,
    },
    /// Lines of tables.
    Tables(Vec<String>),
}

/// Reads a script. `first` is the number of its first line in the file.
pub fn read(text: &str, first: usize) -> Vec<Step> {
    let lines: Vec<&str> = text.lines().collect();
    let mut steps: Vec<Step> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_end();
        let number = first + at;
        at += 1;
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let begin = at;
        while at < lines.len() && (lines[at].starts_with(' ') || lines[at].starts_with('\t')) {
            at += 1;
        }
        let block: Vec<(usize, &str)> = (begin..at)
            .map(|i| (first + i, lines[i].trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let plain = || -> Vec<String> { block.iter().map(|(_, line)| line.to_string()).collect() };
        let what = match word {
            "clear" => What::Clear,
            "now" => What::Now(rest.to_string()),
            "times" => What::TextTimes(rest == "text"),
            "load" => {
                let lines = block.iter().map(|(n, line)| (*n, line.to_string()));
                What::Load(rest.to_string(), lines.collect())
            }
            "eval" => {
                let mut query = vec![rest.to_string()];
                query.extend(plain());
                What::Eval(query.join(" "))
            }
            "expect" => {
                let step = steps
                    .last_mut()
                    .unwrap_or_else(|| panic!("line {number}: nothing to expect of"));
                step.expected = (step.expected.0.min(begin - 1), at);
                step.expect = match (rest.split_once(' ').unwrap_or((rest, "")), &mut step.expect) {
                    (("nothing", _), _) => Expect::Nothing,
                    (("error", text), _) => Expect::Error {
                        text: text.trim().to_string(),
                        hint: None,
                    },
                    (("hint", text), Expect::Error { text: error, .. }) => Expect::Error {
                        text: std::mem::take(error),
                        hint: Some(text.trim().to_string()),
                    },
                    (("", _), _) => Expect::Tables(plain()),
                    _ => panic!("line {number}: what is expected? {rest}"),
                };
                continue;
            }
            _ => panic!("line {number}: {word:?} is none of clear, now, times, load, eval, expect"),
        };
        steps.push(Step {
            line: number,
            what,
            expected: (at, at),
            expect: Expect::Unsaid,
        });
    }
    steps
}
