//! A writer that rotates in every way, and a follower that must have every line once.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::cli::sink::Progress;

#[derive(Clone, Default)]
struct Collect {
    lines: Arc<Mutex<Vec<String>>>,
    progress: Arc<Progress>,
}

impl Sink for Collect {
    fn line(&mut self, line: &[u8], _: &Path, _: u64) -> Result<()> {
        self.lines.lock().push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    }

    fn too_long(&mut self, len: usize, _: &Path, _: u64) -> Result<()> {
        anyhow::bail!("a line of {len} bytes")
    }

    fn is_over(&mut self) -> bool {
        self.progress.is_stopped()
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}

struct Follower {
    directory: tempfile::TempDir,
    collect: Collect,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Follower {
    fn new(before: &str, from_end: bool, grace: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        if !before.is_empty() {
            File::create(&path).unwrap().write_all(before.as_bytes()).unwrap();
        }
        let collect = Collect::default();
        let mut sink = collect.clone();
        let thread = std::thread::spawn(move || follow(&[path], from_end, 1000, grace, &mut sink));
        Self { directory, collect, thread: Some(thread) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut options = File::options();
        let mut file = options.append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn wait_for(&self, expected: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while *self.collect.lines.lock() != expected {
            let found = self.collect.lines.lock().clone();
            let is_alive = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            assert!(is_alive, "the follower ended");
            assert!(Instant::now() < deadline, "{found:?} instead of {expected:?}");
            self.collect.progress.pause(Duration::from_millis(5));
        }
    }

    fn stop(mut self) -> u64 {
        self.collect.progress.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.collect.progress.unfinished.load(Ordering::Relaxed)
    }
}

#[test]
fn growth_and_unfinished_lines() {
    let follower = Follower::new("one\ntw", false, GRACE);
    follower.wait_for(&["one"]);
    follower.append("app.log", "o\nthree\nfo");
    follower.wait_for(&["one", "two", "three"]);
    assert_eq!(follower.stop(), 1);
}

#[test]
fn what_was_there_before_can_be_left_out_and_a_missing_file_is_waited_for() {
    let follower = Follower::new("", false, GRACE);
    follower.append("app.log", "first\n");
    follower.wait_for(&["first"]);
    assert_eq!(follower.stop(), 0);

    let follower = Follower::new("old\n", true, GRACE);
    // Growth before the follower opened the file would be left out as well.
    follower.collect.progress.pause(Duration::from_millis(300));
    follower.append("app.log", "new\n");
    follower.wait_for(&["new"]);
    follower.stop();
}

#[test]
fn a_renamed_file_is_read_to_its_end_also_after_the_new_one_is_there() {
    let follower = Follower::new("1\n", false, Duration::from_millis(700));
    follower.wait_for(&["1"]);
    follower.append("app.log", "2\n");
    std::fs::rename(follower.path("app.log"), follower.path("app.log.1")).unwrap();
    follower.append("app.log.1", "3\n");
    follower.append("app.log", "4\n");
    follower.wait_for(&["1", "2", "3", "4"]);
    // The writer has not noticed yet; its last line has no end.
    follower.append("app.log.1", "5\n6");
    follower.wait_for(&["1", "2", "3", "4", "5", "6"]);
    follower.append("app.log", "7\n");
    follower.wait_for(&["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(follower.stop(), 0);
}

#[test]
fn a_truncated_file_is_read_anew_even_if_it_grew_beyond_the_old_length() {
    let follower = Follower::new("a long first line\n", false, GRACE);
    follower.wait_for(&["a long first line"]);
    File::create(follower.path("app.log")).unwrap();
    follower.append("app.log", "x\n");
    follower.wait_for(&["a long first line", "x"]);
    let mut file = File::create(follower.path("app.log")).unwrap();
    file.write_all(b"longer than before\nand more\n").unwrap();
    follower.wait_for(&["a long first line", "x", "longer than before", "and more"]);
    follower.stop();
}

#[test]
fn nothing_is_lost_over_many_rotations_under_load() {
    let follower = Follower::new("0\n", false, GRACE);
    let mut expected = vec!["0".to_owned()];
    for rotation in 0..10 {
        let mut file =
            File::options().append(true).create(true).open(follower.path("app.log")).unwrap();
        for line_number in 0..2000 {
            let line = format!("{rotation}-{line_number}");
            writeln!(file, "{line}").unwrap();
            expected.push(line);
            if line_number == 0 {
                // A file that came and went between two looks would never be seen.
                follower.wait_for(&expected.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
        // As logrotate does it; the writer goes on for a moment and is then told.
        let rotated = follower.path(&format!("app.log.{rotation}"));
        std::fs::rename(follower.path("app.log"), &rotated).unwrap();
        writeln!(file, "{rotation}-last").unwrap();
        expected.push(format!("{rotation}-last"));
        drop(file);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        follower.wait_for(&expected);
    }
    follower.stop();
}
