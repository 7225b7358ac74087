//! Good and bad readings, and the document they come from.

use kymo_plugin_api::kit;
use kymo_tutorial::Thermometer;

#[test]
fn description() {
    kit::check_description(&Thermometer);
}

#[test]
fn good_lines() {
    kit::check_good(
        &Thermometer,
        &[
            ("kitchen 21.5", &["temperature,room=kitchen celsius=21.5"][..]),
            (
                "a 1 1\n\n  b 2  \r\n",
                &[
                    "temperature,room=a celsius=1 1000000000",
                    "temperature,room=b celsius=2",
                ],
            ),
        ],
    );
    kit::check_good_with(
        &Thermometer,
        &[("scale", "fahrenheit")],
        &[("attic 212", &["temperature,room=attic celsius=100"])],
    );
}

#[test]
fn bad_lines() {
    kit::check_bad(
        &Thermometer,
        &[
            ("kitchen", "missing degrees"),
            ("kitchen warm", "invalid degrees"),
            ("kitchen 1 soon", "invalid time"),
            ("kitchen 1 1 1", "more than room, degrees and time"),
        ],
    );
}

#[test]
fn any_bytes() {
    kit::check_robust(&Thermometer, &["kitchen 21.5 1700000000", "attic 3"]);
}

#[test]
fn the_document_shows_this_very_code() {
    let document = include_str!("../../../docs/plugins.md");
    let sources = concat!(
        include_str!("../src/lib.rs"),
        include_str!("corpus.rs"),
        include_str!("../Cargo.toml"),
        include_str!("../../../Cargo.toml"),
        include_str!("../../../src/ingest/registry.rs")
    );
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sources = plain(sources);
    let blocks: Vec<&str> = document
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix("rust\n").or(block.strip_prefix("toml\n")))
        .collect();
    assert!(blocks.len() >= 6, "{} blocks", blocks.len());
    for block in blocks {
        assert!(sources.contains(&plain(block)), "not in the plug-in:\n{block}");
    }
    // Put one behind the other they are all of it: who follows the document lacks nothing.
    let before_tests = document.split("## 6").next().expect("a text");
    let blocks = before_tests.split("```rust\n").skip(1);
    let code: Vec<&str> = blocks
        .map(|block| block.split("```").next().unwrap_or(""))
        .collect();
    let source = include_str!("../src/lib.rs")
        .split_once("use ")
        .expect("imports")
        .1;
    assert_eq!(plain(&code.concat()), format!("use {}", plain(source)));
}
