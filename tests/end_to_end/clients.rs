//! Clients nobody here wrote send data and ask for it; what comes back is compared with what was sent.

use crate::support::{Server, program, python, run};
use serde_json::json;
use std::process::Command;

#[test]
fn influx_shell_writes_and_reads() {
    let Some(influx) = program("influx", "the Debian package influxdb-client") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let (host, port) = server.http.split_once(':').expect("host:port");
    let shell = |database: &str, q: &str| {
        let mut command = Command::new(&influx);
        command.args([
            "-host",
            host,
            "-port",
            port,
            "-precision",
            "ns",
            "-format",
            "csv",
            "-execute",
            q,
        ]);
        if !database.is_empty() {
            command.args(["-database", database]);
        }
        run(&mut command)
    };
    shell("", "CREATE DATABASE shell");
    assert!(shell("", "SHOW DATABASES").contains("shell"));
    shell(
        "shell",
        "INSERT cpu,host=a\\ b,region=eu usage=12.5,cores=4i,up=true,note=\"hi, there\" 1000000000",
    );
    shell("shell", "INSERT cpu,host=c usage=7 2000000000");
    assert_eq!(
        shell("shell", "SELECT * FROM cpu"),
        "name,time,cores,host,note,region,up,usage\n\
         cpu,1000000000,4,a b,\"hi, there\",eu,true,12.5\n\
         cpu,2000000000,,c,,,,7\n"
    );
    assert_eq!(
        shell(
            "shell",
            "SELECT mean(usage) FROM cpu WHERE time >= 0s AND time < 4s GROUP BY time(2s) fill(0)"
        ),
        "name,time,mean\ncpu,0,12.5\ncpu,2000000000,7\n"
    );
    assert!(shell("shell", "SHOW TAG VALUES WITH KEY = host").contains("cpu,host,a b"));
}

#[test]
fn python_influxdb_writes_and_reads() {
    let Some(python) = python(&["influxdb"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let port = server.http.rsplit(':').next().expect("a port");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python_influxdb.py");
    let said = run(Command::new(python).args([script, port]));
    assert!(said.ends_with("ok\n"), "{said}");
    assert_eq!(
        server.rows("py", "SELECT count(value) FROM load"),
        [json!([0, 1000])],
        "what python-influxdb wrote is there"
    );
}

#[test]
fn statsd_and_datadog_clients_are_aggregated() {
    let Some(python) = python(&["statsd", "datadog"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let port = server.statsd.rsplit(':').next().expect("a port");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/statsd_clients.py");
    run(Command::new(python).args([script, port]));
    // The flush interval decides when; SIGTERM flushes what is left. So stop, start again, and look.
    let data = server.data.clone();
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(&data);
    let one = |q: &str| server.rows("statsd", q).first().map(|row| row[1].clone());
    assert_eq!(one("SELECT sum(value) FROM py_hits"), Some(json!(30)));
    assert_eq!(one("SELECT last(value) FROM py_level"), Some(json!(7)));
    assert_eq!(one("SELECT sum(\"count\") FROM py_time"), Some(json!(2)));
    assert_eq!(one("SELECT max(upper) FROM py_time"), Some(json!(320)));
    assert_eq!(
        one("SELECT sum(value) FROM dd_pages WHERE env = 'prod'"),
        Some(json!(5))
    );
    assert_eq!(
        one("SELECT last(value) FROM dd_users WHERE env = 'prod'"),
        Some(json!(3))
    );
}
