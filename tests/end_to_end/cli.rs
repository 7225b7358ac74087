//! The command line against a running server.

use crate::support::{KYMO, Server, run};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

#[test]
fn write_then_query_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let url = server.url("");
    let file = folder.path().join("lines.lp");
    std::fs::write(
        &file,
        "cpu,host=a v=1.5 1000000000\ncpu,host=b v=2.5 2000000000\n",
    )
    .expect("written");
    run(Command::new(KYMO)
        .args(["write", "--url", &url, "--database", "cli"])
        .arg(&file));
    let mut piped = Command::new(KYMO)
        .args([
            "write",
            "--url",
            &url,
            "--database",
            "cli",
            "--precision",
            "s",
            "-",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    piped
        .stdin
        .take()
        .expect("piped")
        .write_all(b"cpu,host=c v=3 3")
        .expect("read");
    assert!(piped.wait().expect("a child").success());

    let query = |format: &str, q: &str| {
        run(Command::new(KYMO).args(["query", "--url", &url, "--database", "cli", "--format", format, q]))
    };
    assert_eq!(
        query("csv", "SELECT v FROM cpu"),
        "name,tags,time,v\ncpu,,1000000000,1.5\ncpu,,2000000000,2.5\ncpu,,3000000000,3\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&query("json", "SELECT count(v) FROM cpu")).expect("JSON");
    assert_eq!(json["results"][0]["series"][0]["values"][0][1], 3);
    let table = query("table", "SELECT v FROM cpu WHERE host = 'b'");
    assert!(
        table.contains("1970-01-01T00:00:02Z") && table.contains("2.5"),
        "{table}"
    );
}

#[test]
fn errors_are_told_and_counted_as_failures() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let cases: &[(&[&str], &str)] = &[
        (&["query", "--database", "d", "SELEC v"], "found SELEC"),
        (
            &["query", "--database", "nope", "SELECT v FROM m"],
            "database not found",
        ),
        (&["write", "/no/such/file"], "/no/such/file"),
    ];
    for (arguments, text) in cases {
        let output = Command::new(KYMO)
            .args(*arguments)
            .args(["--url", &server.url("")])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(text),
            "{arguments:?}: {said}"
        );
    }
    let nobody = format!("http://{}", crate::support::free_address());
    let output = Command::new(KYMO)
        .args(["query", "--url", &nobody, "SHOW DATABASES"])
        .output()
        .expect("it runs");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("kymo serve"),
        "a hint how to start one"
    );
}

#[test]
fn live_prints_windows() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.write("d", "m v=41");
    let mut live = Command::new(KYMO)
        .args([
            "live",
            "--url",
            &server.url(""),
            "--database",
            "d",
            "--format",
            "json",
        ])
        .arg("SELECT sum(v) FROM m GROUP BY time(1h)")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(live.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("snapshot") && first.contains("41"), "{first}");
    server.write("d", "m v=1");
    let changed = lines
        .map_while(Result::ok)
        .find(|line| line.contains("\"update\""))
        .expect("an update");
    // Unless the hour turned between the two writes, the sum is of both.
    assert!(changed.contains("42") || changed.contains("[["), "{changed}");
    live.kill().expect("it runs");
    live.wait().expect("a child");
}
