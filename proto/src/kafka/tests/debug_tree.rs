//! What `{:?}` prints, as a tree: compares structures of two crates by the names of their fields.

/// A printed value. Wrappers such as `Some(x)` or `TopicName(x)` are what is in them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Word(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl Tree {
    fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Word(word) => word == "\"\"" || word == "b\"\"",
            Self::List(items) => items.is_empty(),
            Self::Fields(_) => false,
        }
    }
}

/// Where `ours` has another value than `theirs`, which may have more fields. Null and empty are the
/// same: a version has one of them only.
pub(super) fn differences(ours: &Tree, theirs: &Tree) -> Vec<String> {
    match (ours, theirs) {
        (Tree::List(ours), Tree::List(theirs)) if ours.len() == theirs.len() => {
            ours.iter().zip(theirs).flat_map(|(ours, theirs)| differences(ours, theirs)).collect()
        }
        (Tree::Fields(ours), Tree::Fields(theirs)) => {
            let of = |name: &str| theirs.iter().find(|(their, _)| their == name);
            let each = ours.iter().flat_map(|(name, ours)| match of(name) {
                Some((_, theirs)) => {
                    let found = differences(ours, theirs).into_iter();
                    found.map(|text| format!("{name}.{text}")).collect()
                }
                None => vec![format!("{name}: not among {theirs:?}")],
            });
            each.collect()
        }
        _ if ours == theirs || ours.is_empty() && theirs.is_empty() => Vec::new(),
        _ => vec![format!(": {ours:?} instead of {theirs:?}")],
    }
}

/// Parses what was printed in one line.
pub(super) fn parse(text: &str) -> Tree {
    let mut left = text;
    let tree = value(&mut left);
    assert!(left.is_empty(), "not parsed: {left}");
    tree
}

fn eat(left: &mut &str, token: &str) -> bool {
    let trimmed = left.trim_start();
    let found = trimmed.strip_prefix(token);
    *left = found.unwrap_or(trimmed);
    found.is_some()
}

fn value(left: &mut &str) -> Tree {
    if eat(left, "[") {
        let mut items = Vec::new();
        while !eat(left, "]") {
            items.push(value(left));
            eat(left, ",");
        }
        return Tree::List(items);
    }
    if left.starts_with('"') || left.starts_with("b\"") {
        return Tree::Word(quoted(left));
    }
    let end = left.find(|c: char| !c.is_alphanumeric() && !"_-".contains(c)).unwrap_or(left.len());
    let (word, rest) = left.split_at(end);
    *left = rest;
    if eat(left, "(") {
        let inner = value(left);
        assert!(eat(left, ")"), "`)` expected: {left}");
        return inner;
    }
    if eat(left, "{") {
        return Tree::Fields(fields(left));
    }
    if word == "None" { Tree::Null } else { Tree::Word(word.to_owned()) }
}

fn fields(left: &mut &str) -> Vec<(String, Tree)> {
    let mut fields = Vec::new();
    while !eat(left, "}") {
        let (name, rest) = left.split_once(": ").expect("a field");
        *left = rest;
        fields.push((name.trim().to_owned(), value(left)));
        eat(left, ",");
    }
    fields
}

fn quoted(left: &mut &str) -> String {
    let start = left.find('"').expect("a quote") + 1;
    let mut escaped = false;
    let end = left[start..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let end = start + end.expect("a closing quote") + 1;
    let (text, rest) = left.split_at(end);
    *left = rest;
    text.to_owned()
}
