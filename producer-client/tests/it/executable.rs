//! The executable: what it sends, how it ends, what it says.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broker::{Brokers, Faults};

fn producer(brokers: &Brokers) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_producer"));
    command
        .env("OTTLA_BOOTSTRAP_SERVER", brokers.bootstrap().join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end on another thread, so that the brokers go on.
async fn run(mut command: Command, input: Vec<u8>) -> Output {
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // An executable that ends early does not read all.
        let _ = child.stdin.take().unwrap().write_all(&input);
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

async fn end(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn summary(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)))
}

fn numbered(count: usize) -> (Vec<String>, Vec<u8>) {
    let lines: Vec<String> = (0..count).map(|number| format!("{number:08} line")).collect();
    let input = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
    (lines, input)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn standard_input_arrives_whole_whatever_breaks() {
    let faults = Faults {
        drop_before: 20,
        drop_after: 20,
        error_after: 20,
        reorder: true,
        ..Faults::default()
    };
    let brokers = Brokers::start(3, 2, 1, faults).await;
    let (lines, input) = numbered(50_000);
    let mut command = producer(&brokers);
    command.args(["-t", "t", "--format", "json", "--batch-size", "4000"]);
    command.args(["--set", "retry.backoff.ms=1", "--set", "reconnect.backoff.ms=1"]);
    let output = run(command, input).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(brokers.log(0), lines);
    let summary = summary(&output);
    assert_eq!(summary["lines"], 50_000);
    assert_eq!(summary["acknowledged"], 50_000);
    assert_eq!(summary["failed"], 0);
    assert_eq!(summary["bytes"], 50_000 * 13);
}

#[tokio::test]
async fn files_go_in_order_with_keys_and_a_last_line_without_end() {
    let brokers = Brokers::start(1, 1, 3, Faults::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    };
    let mut command = producer(&brokers);
    command.args(["-t", "t", "-K", ":", "-H", "source=test"]);
    command.args([file("one", "k:1\nk:2\n\nk:3"), file("two", "k:4\n")]).arg("-");
    let output = run(command, b"k:5\n".to_vec()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("6 lines"), "{}", stderr(&output));
    let mut logs: Vec<_> = (0..3).map(|p| brokers.log(p)).filter(|log| !log.is_empty()).collect();
    logs.sort_by_key(Vec::len);
    let keyed = logs.pop().unwrap();
    let keyed: Vec<_> = keyed.into_iter().filter(|value| !value.is_empty()).collect();
    assert_eq!(keyed, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_refused_record_fails_the_run() {
    let faults = Faults { poison: Some("00000777"), ..Faults::default() };
    let brokers = Brokers::start(1, 1, 1, faults).await;
    let mut command = producer(&brokers);
    command.args(["-t", "t", "--format", "json", "--batch-size", "1000", "--keep-going"]);
    let output = run(command, numbered(2000).1).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("poison"), "{}", stderr(&output));
    let summary = summary(&output);
    let failed = summary["failed"].as_u64().unwrap();
    assert!(failed > 0 && failed < 100, "{failed}");
    assert_eq!(summary["acknowledged"].as_u64().unwrap() + failed, 2000);
    assert_eq!(brokers.log(0).len() as u64 + failed, 2000);
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_sent() {
    let brokers = Brokers::start(1, 1, 3, Faults::default()).await;
    for (arguments, told) in [
        (&["-t", "nope"][..], "does not exist"),
        (&["-t", "bad name"], "rename it"),
        (&["-t", "t", "-p", "7"], "no partition 7"),
        (&["-t", "t", "no-such-file"], "no-such-file"),
        (&["-t", "t", "--set", "linger=5"], "did you mean `linger.ms`"),
        (&["-t", "t", "--acks", "2"], "expected 0, 1 or all"),
        (&["-t", "t", "--key-regex", "("], "--key-regex"),
        (&[], "--topic"),
    ] {
        let mut command = producer(&brokers);
        command.args(arguments);
        let output = run(command, b"x\n".to_vec()).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(told), "{arguments:?}: {}", stderr(&output));
    }
    assert!((0..3).all(|partition| brokers.log(partition).is_empty()));
}

#[tokio::test]
async fn a_long_line_is_an_error_or_left_out() {
    let brokers = Brokers::start(1, 1, 1, Faults::default()).await;
    let input = [b"a\n".as_slice(), &[b'x'; 5000], b"\nb\n"].concat();
    let arguments = ["-t", "t", "--set", "max.request.size=1000", "--format", "json"];
    let mut command = producer(&brokers);
    command.args(arguments);
    let output = run(command, input.clone()).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("line 2"), "{}", stderr(&output));
    assert_eq!(brokers.log(0), ["a"]);
    let mut command = producer(&brokers);
    command.args(arguments).arg("--skip-long-lines");
    let output = run(command, input).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(summary(&output)["skipped_long_lines"], 1);
    assert_eq!(brokers.log(0), ["a", "a", "b"]);
}

#[tokio::test]
async fn an_interrupt_ends_reading_and_delivers_what_was_read() {
    let brokers = Brokers::start(1, 1, 1, Faults { slow: true, ..Faults::default() }).await;
    let mut command = producer(&brokers);
    command.args(["-t", "t", "--format", "json", "--linger-ms", "500"]);
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    let (lines, input) = numbered(1000);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&input).unwrap();
    until("the first lines arrive", || !brokers.log(0).is_empty()).await;
    kill(pid, Signal::SIGINT).unwrap();
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let summary = summary(&output);
    assert_eq!(summary["interrupted"], true);
    assert_eq!(summary["acknowledged"], summary["lines"]);
    assert_eq!(brokers.log(0), lines[..summary["lines"].as_u64().unwrap() as usize]);
    drop(stdin);
}

#[tokio::test]
async fn a_followed_file_is_shipped_until_told_to_end() {
    let brokers = Brokers::start(1, 1, 1, Faults::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let append = |text: &str| {
        let mut options = std::fs::File::options();
        let mut file = options.append(true).create(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("1\n");
    let mut command = producer(&brokers);
    command.args(["-t", "t", "--format", "json", "--follow"]).arg(&path);
    let child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    until("what was there", || brokers.log(0) == ["1"]).await;
    append("2\n");
    std::fs::rename(&path, directory.path().join("app.log.1")).unwrap();
    append("3\n");
    until("what came after a rotation", || brokers.log(0) == ["1", "2", "3"]).await;
    kill(pid, Signal::SIGTERM).unwrap();
    let output = end(child).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(summary(&output)["acknowledged"], 3);
}

#[tokio::test]
async fn settings_and_completions_are_printed() {
    let brokers = Brokers::start(1, 1, 1, Faults::default()).await;
    let mut command = producer(&brokers);
    command.args(["config", "show"]).env("OTTLA_PRODUCER_LINGER_MS", "9");
    let output = run(command, Vec::new()).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("\nlinger.ms = 9\n"), "{shown}");
    let mut command = producer(&brokers);
    command.args(["completions", "bash"]);
    let output = run(command, Vec::new()).await;
    assert!(output.status.success() && output.stdout.len() > 1000);
}
