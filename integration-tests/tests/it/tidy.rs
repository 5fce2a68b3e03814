//! Rules of the source tree that a reader would otherwise have to enforce by eye.

use std::path::{Path, PathBuf};

/// What a folder may not mention, and why: dependencies point one way.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("proto/src/record", &["tokio", "std::fs", "std::net", "hyper"], "codecs do no I/O"),
    ("proto/src/grpc", &["tokio", "std::fs", "std::net"], "framing does no I/O"),
    ("proto/src", &["coordinator::", "broker::", "zookeeper_client"], "proto is the lowest layer"),
    ("coordinator/src/rebalance", &["tokio", "zookeeper_client", "std::fs"], "rebalance is pure"),
    ("coordinator/src", &["broker::"], "the broker depends on the coordinator, not the reverse"),
    (
        "broker/src/storage",
        &[
            "tokio",
            "hyper",
            "tonic",
            "coordinator::",
            "crate::replication",
            "crate::server",
            "crate::api",
        ],
        "the storage core is synchronous and knows only record batches",
    ),
    ("broker/src/replication", &["crate::server", "crate::api"], "upper may use lower only"),
    ("broker/src/groups", &["crate::server", "crate::api", "hyper"], "upper may use lower only"),
    (
        "broker/src/groups/classic",
        &["tokio", "crate::replication", "crate::storage", "SystemTime"],
        "a group is a pure state machine",
    ),
    ("broker/src/api", &["crate::server", "hyper"], "both listeners call api, never the reverse"),
    (
        "producer-client/src",
        &["zookeeper_client", "coordinator::"],
        "a producer needs brokers only",
    ),
];

/// The only files that may hold `unsafe`.
const UNSAFE_ALLOWED: &[&str] = &["broker/src/storage/disk"];

const FILE_LINES_MAX: usize = 800;
/// rustfmt keeps code within 100; prose may run over by a word, tables and addresses by any length.
const LINE_WIDTH_MAX: usize = 110;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a readable folder").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && !name.to_string_lossy().starts_with('.') {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(found.len() > 50, "the walk missed the sources: {} found", found.len());
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable source");
            let name = path.strip_prefix(&root).expect("below the root");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs") || path.contains("/benches/")
}

/// `word` stands in it, not as the end of a longer name (`find_coordinator::` is no `coordinator::`).
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_stays_readable() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            problems.push(format!("{path}: begins without a `//!` line"));
        }
        let lines = text.lines().count();
        if !is_test(&path) && lines > FILE_LINES_MAX {
            problems.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX}"));
        }
        for (number, line) in text.lines().enumerate() {
            let width = line.chars().count();
            let free = ["http", "\"", "|"].iter().any(|mark| line.contains(mark));
            if width > LINE_WIDTH_MAX && !free {
                problems.push(format!("{path}:{}: {width} columns", number + 1));
            }
        }
        if path.ends_with("/mod.rs") && !is_test(&path) {
            let functions = text.lines().filter(|line| line.starts_with("fn ")).count();
            if functions > 3 {
                problems.push(format!("{path}: a mod.rs tells a story and holds no logic"));
            }
        }
    }
    report(&problems);
}

#[test]
fn dependencies_point_one_way() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        for (folder, forbidden, why) in FORBIDDEN {
            if !path.starts_with(folder) || is_test(&path) {
                continue;
            }
            // The client feature of proto is the connection itself.
            if *folder == "proto/src/grpc" && path.starts_with("proto/src/client") {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in *forbidden {
                    if mentions(code, word) {
                        problems.push(format!("{path}:{}: `{word}`: {why}", number + 1));
                    }
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn unsafe_stays_in_the_few_files_that_need_it() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        if UNSAFE_ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains("unsafe {")
                || code.contains("unsafe fn")
                || code.contains("unsafe impl")
            {
                let place = format!("{path}:{}", number + 1);
                if path != "integration-tests/tests/it/tidy.rs" {
                    problems.push(place);
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn architecture_names_only_paths_that_exist() {
    let root = root();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut problems = Vec::new();
    let mut seen = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let is_path = word.contains('/')
            && !word.starts_with('/')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let top = word.split('/').next().unwrap_or_default();
        let members = [
            "proto",
            "broker",
            "coordinator",
            "producer-client",
            "consumer-client",
            "integration-tests",
            "deploy",
            ".ci",
        ];
        if is_path && members.contains(&top) {
            seen += 1;
            if !root.join(word).exists() {
                problems.push(format!("ARCHITECTURE.md names `{word}`, which is not there"));
            }
        }
    }
    assert!(seen > 20, "only {seen} paths found: the code map is missing");
    report(&problems);
}
