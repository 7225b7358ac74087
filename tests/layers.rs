//! Bytes flow one way, and so do imports: a module may only use the modules listed before it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the bottom up. A module may import those above it in this list, and itself.
const ORDER: &[&str] = &[
    "model",
    "budget",
    "lane",
    "lang",
    "block",
    "batch",
    "store",
    "catalog",
    "ingest",
    "rejected",
    "journal",
    "shard",
    "rollup",
    "query",
    "engine",
    "live",
    "refresh",
    "host",
    "telemetry",
    "listen",
    "config",
    "net",
    "actors",
    "cli",
    "app",
];

/// Modules that alone may name a crate.
const HOMES: &[(&str, &[&str])] = &[
    ("fjall", &["src/store"]),
    ("rkyv", &["src/batch/encoded"]),
    ("actix_web", &["src/net"]),
    ("actix_http", &["src/net"]),
    ("actix_server", &["src/net"]),
    // Its tests make a message of each format that is no text.
    ("flatbuffers", &["src/live/flat", "src/ingest/reject/tests"]),
    ("actix", &["src/actors", "src/app.rs"]),
    ("logos", &["src/lang"]),
    ("tdigests", &["src/query"]),
    ("libmimalloc_sys", &["src/budget/allocator.rs"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR"))
        .expect("below the root")
        .to_string_lossy()
        .into_owned()
}

/// The top-level module a file belongs to: `src/query/plan.rs` and `src/query.rs` are both `query`.
fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").expect("a source");
    inside.split(['/', '.']).next().expect("split gives at least one")
}

/// Modules named as `crate::NAME` or inside `crate::{..}`, comments left out.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let names: Vec<&str> = match after.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or("").split(',').collect(),
            None => vec![after],
        };
        for name in names {
            let word: String = name
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.insert(word);
        }
    }
    found
}

#[test]
fn modules_import_only_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&root) {
        let name = relative(&path);
        let module = module_of(&name);
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let place = |m: &str| ORDER.iter().position(|o| *o == m);
        let Some(own) = place(module) else {
            wrong.push(format!("{name}: module {module} has no place in ORDER"));
            continue;
        };
        for used in imports(&std::fs::read_to_string(&path).expect("a source")) {
            if place(&used).is_some_and(|at| at > own) {
                wrong.push(format!("{name} imports {used}, which is above {module}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_stay_in_their_homes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&root) {
        let name = relative(&path);
        let text = std::fs::read_to_string(&path).expect("a source");
        for (krate, homes) in HOMES {
            let used = text.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && (line.contains(&format!("use {krate}::")) || line.contains(&format!(" {krate}::")))
            });
            if used && !homes.iter().any(|home| name.starts_with(home)) {
                wrong.push(format!("{name} uses {krate}, whose home is {}", homes.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checks_can_fail() {
    assert_eq!(
        imports("use crate::net::x; // crate::actors\nuse crate::{model, query::scan};").len(),
        3
    );
    assert_eq!(module_of("src/query/plan.rs"), "query");
    assert_eq!(module_of("src/engine.rs"), "engine");
}
