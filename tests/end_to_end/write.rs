//! `kymo write`: retries, going on where it stopped, files of every kind.

use crate::support::{KYMO, Server, free_address, run};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn write(url: &str, arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(KYMO);
    command
        .args(["write", "--url", url, "--database", "w"])
        .args(arguments)
        .arg(file);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of lines `m v=N N`.
fn lines(folder: &Path, count: u64) -> std::path::PathBuf {
    let file = folder.join("lines.lp");
    let text: String = (1..=count).map(|i| format!("m v={i} {i}\n")).collect();
    std::fs::write(&file, text).expect("written");
    file
}

#[test]
fn waits_for_a_server_that_is_not_there_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = lines(folder.path(), 100);
    let address = free_address();
    let url = format!("http://{address}");
    let waiting = write(&url, &["--batch-size", "30"], &file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_millis(500));
    let data = folder.path().join("data");
    let server = Server::launch_at(&address, &data, &["--host-metrics", "off"]);
    let output = waiting.wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("trying again for 600s"),
        "{}",
        said(&output)
    );
    assert_eq!(
        server.rows("w", "SELECT count(v), sum(v) FROM m"),
        [json!([0, 100, 5050])]
    );
}

/// Answers one request after the other so; when each write had come.
fn answering(listener: TcpListener, answers: Vec<String>) -> std::thread::JoinHandle<Vec<Instant>> {
    std::thread::spawn(move || {
        let mut writes = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut got = Vec::new();
            let mut piece = [0; 4096];
            let end = loop {
                let read = stream.read(&mut piece).expect("readable");
                assert!(read > 0, "a whole request");
                got.extend_from_slice(&piece[..read]);
                if let Some(at) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
            };
            let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).expect("a length");
            let length: usize = length
                .split("\r\n")
                .next()
                .expect("a line")
                .parse()
                .expect("a number");
            while got.len() < end + length {
                let read = stream.read(&mut piece).expect("readable");
                got.extend_from_slice(&piece[..read]);
            }
            if head.starts_with("post /write") {
                writes.push(Instant::now());
            }
            stream.write_all(answer.as_bytes()).expect("written");
        }
        writes
    })
}

fn answer(status: &str, header: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n")
}

#[test]
fn sends_again_when_the_server_asks_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = lines(folder.path(), 4);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let answers = [
        answer("200 OK", ""),
        answer("503 Service Unavailable", "Retry-After: 2\r\n"),
        answer("204 No Content", ""),
        answer("429 Too Many Requests", ""),
        answer("500 Internal Server Error", ""),
        answer("204 No Content", ""),
    ];
    let server = answering(listener, answers.to_vec());
    let output = write(&url, &["--batch-size", "2"], &file)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("4 lines"), "{}", said(&output));
    let writes = server.join().expect("no panic");
    assert_eq!(writes.len(), 5, "two batches, three tries in vain");
    let waited = writes[1] - writes[0];
    assert!(
        waited >= Duration::from_secs(2),
        "it was asked to wait, and came after {waited:?}"
    );
}

#[test]
fn sends_again_when_no_answer_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = lines(folder.path(), 4);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let silent = listener.try_clone().expect("a second handle");
    let done = answer("204 No Content", "");
    let server = std::thread::spawn(move || {
        let made = answering(listener, vec![answer("200 OK", "")]);
        made.join().expect("no panic");
        // The batch is taken, and nothing is said: neither an answer nor an end.
        let (held, _) = silent.accept().expect("a connection");
        let writes = answering(silent, vec![done]).join().expect("no panic");
        drop(held);
        writes
    });
    let output = write(&url, &["--timeout", "1", "--retry-for", "300"], &file)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(server.join().expect("no panic").len(), 1, "the batch, once more");
}

#[test]
fn gives_up_and_says_where_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = lines(folder.path(), 90);
    let data = folder.path().join("data");
    let server = Server::quiet(&data);
    let url = server.url("");
    // A pipe: the server goes away when part of it was sent.
    let mut command = write(&url, &["--batch-size", "20", "--retry-for", "1"], Path::new("-"));
    let mut writing = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let text = std::fs::read_to_string(&file).expect("a file");
    let (first, rest) = text.split_at(text.find("m v=41 ").expect("a line"));
    let mut pipe = writing.stdin.take().expect("piped");
    pipe.write_all(first.as_bytes()).expect("read");
    server.wait_rows("w", "SELECT count(v) FROM m", |rows| {
        rows.first().is_some_and(|row| row[1] == json!(40))
    });
    server.kill();
    pipe.write_all(rest.as_bytes()).expect("read");
    drop(pipe);
    let output = writing.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(1));
    let words = said(&output);
    assert!(
        words.contains("the first 40 lines are stored") && words.contains("go on with --skip 40"),
        "{words}"
    );
    let server = Server::quiet(&data);
    run(&mut write(&server.url(""), &["--skip", "40"], &file));
    assert_eq!(
        server.rows("w", "SELECT count(v), sum(v) FROM m"),
        [json!([0, 90, 4095])]
    );
}

#[test]
fn files_of_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(&folder.path().join("data"));
    let url = server.url("");
    let rows: String = (1..=50)
        .map(|i| format!("h{},{i},{i},\"a\nb\"\n", i % 3))
        .collect();
    let objects: Vec<Value> = (1..=50)
        .map(|i| json!({"measurement": "j", "tags": {"host": "a"}, "fields": {"v": i, "s": "]}\"{["}, "time": i}))
        .collect();
    let files = [
        (
            "c.csv",
            format!("host,ts,v,s\n{rows}"),
            vec![
                "--format",
                "csv",
                "-o",
                "measurement=c",
                "-o",
                "tag_columns=host",
                "-o",
                "time_column=ts",
            ],
        ),
        (
            "j.json",
            serde_json::to_string_pretty(&objects).expect("JSON"),
            vec!["--format", "json"],
        ),
        (
            "l.lp",
            (1..=50).map(|i| format!("l v={i} {i}\n")).collect(),
            vec!["--precision", "ns"],
        ),
    ];
    for (name, text, arguments) in files {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        run(&mut write(
            &url,
            &[&arguments[..], &["--batch-size", "7"]].concat(),
            &file,
        ));
        let measurement = &name[..1];
        let q = format!("SELECT count(v), sum(v), max(v) FROM {measurement}");
        assert_eq!(server.rows("w", &q), [json!([0, 50, 1275, 50])], "{name}");
    }
    // Quoted as the options say, not as it is usual.
    let file = folder.path().join("q.csv");
    let rows: String = (1..=50).map(|i| format!("{i};{i};'\"a\nb'\n")).collect();
    std::fs::write(&file, format!("time;v;s\n{rows}")).expect("written");
    let mut arguments = vec!["--format", "csv", "--batch-size", "7"];
    for option in ["measurement=q", "delimiter=;", "quote='"] {
        arguments.extend(["-o", option]);
    }
    run(&mut write(&url, &arguments, &file));
    assert_eq!(
        server.rows("w", "SELECT count(v), count(s) FROM q WHERE s = '\"a\\nb'"),
        [json!([0, 50, 50])]
    );
    assert_eq!(
        server.rows("w", "SELECT count(s) FROM c WHERE host = 'h1' AND s = 'a\\nb'"),
        [json!([0, 17])]
    );
    assert_eq!(
        server.rows("w", "SELECT count(s) FROM j WHERE s = ']}\"{['"),
        [json!([0, 50])]
    );
}

#[test]
fn refused_lines_are_told_with_their_place_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(&folder.path().join("data"));
    let url = server.url("");
    let file = folder.path().join("bad.lp");
    std::fs::write(&file, "m v=1 1\nm v=2 2\nm v=3 3\nm v= 4\nm v=5 5\n").expect("written");
    let output = write(&url, &["--batch-size", "2"], &file)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("line 4, column 5: "), "{}", said(&output));
    assert!(
        said(&output).contains("1 lines were refused"),
        "{}",
        said(&output)
    );
    assert_eq!(
        server.rows("w", "SELECT count(v), sum(v) FROM m"),
        [json!([0, 4, 11])]
    );
    let csv = folder.path().join("bad.csv");
    std::fs::write(&csv, "v,time\n1,1\n2,2\n3,3\n4,4,4\n").expect("written");
    let output = write(
        &url,
        &["--batch-size", "2", "--format", "csv", "-o", "measurement=c"],
        &csv,
    )
    .output();
    let output = output.expect("it runs");
    assert!(said(&output).contains("line 5, column 5: "), "{}", said(&output));
    let output = write(&url, &["--format", "nonsense", "--retry-for", "0"], &file)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("nonsense"), "{}", said(&output));
}
