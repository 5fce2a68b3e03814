//! Node paths: which ones may exist, and how they are taken apart.

/// Whether a node may have this path, by the rules of ZooKeeper's `PathUtils`: absolute, no empty,
/// `.` or `..` component, no slash at the end, no control, private-use, surrogate or special
/// character.
pub(crate) fn is_valid(path: &str) -> bool {
    match path.strip_prefix('/') {
        None => false,
        Some("") => true,
        Some(rest) => rest
            .split('/')
            .all(|name| !matches!(name, "" | "." | "..") && name.chars().all(is_allowed)),
    }
}

fn is_allowed(character: char) -> bool {
    // Characters beyond the basic plane are surrogate pairs to the Java server, which it refuses.
    !matches!(u32::from(character), 0..=0x1f | 0x7f..=0x9f | 0xe000..=0xf8ff | 0xfff0..)
}

/// Parent and name of a path as create and delete see them: `None` where there is no slash or a
/// NUL. The parent of a child of the root is `""`, which names the root.
pub(crate) fn split(path: &str) -> Option<(&str, &str)> {
    if path.contains('\0') { None } else { path.rsplit_once('/') }
}

/// A parent as watches know it.
pub(crate) fn watched_parent(parent: &str) -> &str {
    if parent.is_empty() { "/" } else { parent }
}

/// The path and then its ancestors, up to the root.
pub(crate) fn with_ancestors(path: &str) -> impl Iterator<Item = &str> {
    let start = if path.is_empty() { None } else { Some(path) };
    std::iter::successors(start, |path| match path.rsplit_once('/') {
        _ if *path == "/" => None,
        None => None,
        Some(("", _)) => Some("/"),
        Some((parent, _)) => Some(parent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_paths() {
        for good in ["/", "/a", "/a/b.c", "/...", "/a b/\u{e9}", "/a/.b"] {
            assert!(is_valid(good), "{good:?}");
        }
        for bad in
            ["", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/a/./b", "/\0", "/\u{1f}", "/\u{1F600}"]
        {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let all: Vec<_> = with_ancestors("/a/b").collect();
        assert_eq!(all, ["/a/b", "/a", "/"]);
        assert_eq!(with_ancestors("/").collect::<Vec<_>>(), ["/"]);
        assert_eq!(with_ancestors("").count(), 0);
        assert_eq!(with_ancestors("a").collect::<Vec<_>>(), ["a"]);
    }
}
