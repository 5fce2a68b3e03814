//! Random operations, the same for both servers.

use super::raw::Body;

/// What the body of a successful reply holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Empty,
    Int,
    Text,
    TextStat,
    Stat,
    BufferStat,
    /// A list whose order is the server's own business.
    Texts,
    TextsStat,
    AclStat,
    Multi,
    Pairs,
}

/// One request as both servers get it.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) op: i32,
    pub(super) shape: Shape,
    /// The body; setWatches differ in their zxid, which each server numbers its own way.
    pub(super) body: Body,
    /// The body with another zxid in front, for the other server.
    pub(super) since: Option<usize>,
    pub(super) text: String,
}

/// One step of a run.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Call(Operation),
    /// Takes the session up on a new connection, which throws the old one off.
    Reconnect,
    /// Ends the session; another is made in its place.
    CloseSession,
}

/// Makes the steps of one run.
pub(super) struct Generator {
    random: fastrand::Rng,
    prefix: String,
}

const NAMES: [&str; 3] = ["a", "b", "n-0000000001"];

impl Generator {
    pub(super) fn new(seed: u64, prefix: String) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), prefix }
    }

    /// Which of so many connections takes the next step.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.random.usize(..count)
    }

    /// Makes the node all others hang on.
    pub(super) fn first(&self) -> Operation {
        let acl = Body::default().int(1).int(31).string("world").string("anyone");
        let body = Body::default().string(&self.prefix).buffer(None).append(&acl).int(0);
        Operation { op: 15, shape: Shape::TextStat, body, since: None, text: self.prefix.clone() }
    }

    pub(super) fn step(&mut self) -> Step {
        match self.random.u32(..100) {
            0 => Step::CloseSession,
            1 | 2 => Step::Reconnect,
            _ => Step::Call(self.operation()),
        }
    }

    fn path(&mut self) -> String {
        const ODD: [&str; 13] = [
            "",
            "/",
            "x",
            "/a/",
            "//",
            "/..",
            "/a\0b",
            "/\u{7}",
            "/zookeeper",
            "/zookeeper/config",
            "/zookeeper/quota",
            "/nowhere/a",
            "/\u{e000}",
        ];
        if self.random.u32(..40) == 0 {
            return ODD[self.random.usize(..ODD.len())].to_owned();
        }
        let mut path = self.prefix.clone();
        for _ in 0..[0, 1, 1, 1, 2, 2, 3][self.random.usize(..7)] {
            path.push('/');
            path.push_str(NAMES[self.random.usize(..NAMES.len())]);
            if self.random.u32(..100) == 0 {
                path.push_str(["/", "/.", "\0", "/../x"][self.random.usize(..4)]);
            }
        }
        path
    }

    fn paths(&mut self) -> Vec<String> {
        (0..self.random.usize(..4)).map(|_| self.path()).collect()
    }

    fn version(&mut self) -> i32 {
        [-1, -1, -1, -1, 0, 0, 1, -2][self.random.usize(..8)]
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        match self.random.u32(..6) {
            0 => None,
            1 => Some(vec![]),
            len => Some(vec![b'x'; len as usize]),
        }
    }

    fn acl(&mut self) -> Body {
        let entry = |body: Body, bits: i32, scheme: &str, id: &str| {
            body.int(bits).string(scheme).string(id)
        };
        let some = Body::default();
        match self.random.u32(..60) {
            0 => some.int(0),
            1 => some.int(-1),
            2 => entry(some.int(1), 31, "nobody", "knows"),
            3 => entry(some.int(1), 1, "world", "anyone"),
            4 => entry(entry(some.int(2), 1, "world", "anyone"), 14, "world", "anyone"),
            5 => entry(entry(some.int(2), 31, "world", "anyone"), 31, "world", "anyone"),
            6 => entry(some.int(1), 31, "world", "nobody"),
            _ => entry(some.int(1), 31, "world", "anyone"),
        }
    }

    fn create(&mut self) -> (String, Body) {
        let mut path = self.path();
        let flags = [0, 0, 0, 0, 0, 1, 1, 2, 3, 9][self.random.usize(..10)];
        if flags == 2 || flags == 3 {
            path.push_str(["/n-", "/", ""][self.random.usize(..3)]);
        }
        let data = self.data();
        let body = Body::default().string(&path).buffer(data.as_deref());
        let body = body.append(&self.acl()).int(flags);
        (format!("{path:?} flags {flags} data {data:?}"), body)
    }

    fn watch(&mut self) -> bool {
        self.random.bool()
    }

    fn operation(&mut self) -> Operation {
        let (op, shape, mut body, text) = match self.random.u32(..100) {
            0..=17 => {
                let (text, body) = self.create();
                if self.random.bool() {
                    (15, Shape::TextStat, body, text)
                } else {
                    (1, Shape::Text, body, text)
                }
            }
            18..=27 => self.path_and_int(2, Shape::Empty),
            28..=40 => {
                let (path, data, version) = (self.path(), self.data(), self.version());
                let body = Body::default().string(&path).buffer(data.as_deref()).int(version);
                (5, Shape::Stat, body, format!("{path:?} {data:?} version {version}"))
            }
            41..=47 => self.path_and_watch(3, Shape::Stat),
            48..=54 => self.path_and_watch(4, Shape::BufferStat),
            55..=59 => self.path_and_watch(8, Shape::Texts),
            60..=64 => self.path_and_watch(12, Shape::TextsStat),
            65..=69 => self.watch_operation(),
            70..=84 => self.multi(),
            85..=88 => self.multi_read(),
            89..=91 => return self.set_watches(),
            92 | 93 => {
                let (path, acl, version) = (self.path(), self.acl(), self.version());
                let body = Body::default().string(&path).append(&acl).int(version);
                (7, Shape::Stat, body, format!("{path:?} {acl:?} version {version}"))
            }
            _ => self.other_read(),
        };
        if self.random.u32(..150) == 0 {
            body.0.truncate(self.random.usize(..=body.0.len().saturating_sub(1)));
        }
        Operation { op, shape, body, since: None, text }
    }

    fn path_and_watch(&mut self, op: i32, shape: Shape) -> (i32, Shape, Body, String) {
        let (path, watch) = (self.path(), self.watch());
        (op, shape, Body::default().string(&path).flag(watch), format!("{path:?} watch {watch}"))
    }

    fn path_and_int(&mut self, op: i32, shape: Shape) -> (i32, Shape, Body, String) {
        let (path, version) = (self.path(), self.version());
        (op, shape, Body::default().string(&path).int(version), format!("{path:?} {version}"))
    }

    fn watch_operation(&mut self) -> (i32, Shape, Body, String) {
        let path = self.path();
        let (op, shape, number) = match self.random.u32(..4) {
            0 | 1 => (106, Shape::Int, [0, 0, 1, 1, 7][self.random.usize(..5)]),
            2 => (17, Shape::Empty, self.random.i32(1..=4)),
            _ => (18, Shape::Empty, self.random.i32(1..=4)),
        };
        (op, shape, Body::default().string(&path).int(number), format!("{path:?} {number}"))
    }

    fn multi(&mut self) -> (i32, Shape, Body, String) {
        let mut body = Body::default();
        let mut text = String::new();
        for _ in 0..self.random.usize(..5) {
            let (op, (name, one)) = match self.random.u32(..16) {
                0..=5 => ([1, 15][self.random.usize(..2)], self.create()),
                6..=8 => (2, self.one(false)),
                9..=11 => (5, self.one(true)),
                12..=14 => (13, self.one(false)),
                _ if self.random.u32(..10) == 0 => (4, self.one(false)),
                _ => (13, self.one(false)),
            };
            body = body.int(op).flag(false).int(-1).append(&one);
            text.push_str(&format!("[{op} {name}] "));
        }
        (14, Shape::Multi, body.int(-1).flag(true).int(-1), text)
    }

    /// Path, data if asked for, version.
    fn one(&mut self, with_data: bool) -> (String, Body) {
        let path = self.path();
        let mut body = Body::default().string(&path);
        if with_data {
            body = body.buffer(self.data().as_deref());
        }
        let version = self.version();
        (format!("{path:?} version {version}"), body.int(version))
    }

    fn multi_read(&mut self) -> (i32, Shape, Body, String) {
        let mut body = Body::default();
        let mut text = String::new();
        for _ in 0..self.random.usize(..4) {
            let (op, path) = ([4, 8][self.random.usize(..2)], self.path());
            body = body.int(op).flag(false).int(-1).string(&path).flag(false);
            text.push_str(&format!("[{op} {path:?}] "));
        }
        (22, Shape::Multi, body.int(-1).flag(true).int(-1), text)
    }

    fn set_watches(&mut self) -> Operation {
        let lists: Vec<_> = (0..5).map(|_| self.paths()).collect();
        let two = self.random.bool();
        let lists = &lists[..if two { 5 } else { 3 }];
        let body = lists.iter().fold(Body::default(), |body, list| body.strings(list));
        Operation {
            op: if two { 105 } else { 101 },
            shape: Shape::Empty,
            body,
            since: Some(self.random.usize(..1000)),
            text: format!("{lists:?}"),
        }
    }

    fn other_read(&mut self) -> (i32, Shape, Body, String) {
        let path = self.path();
        let body = Body::default().string(&path);
        let (op, shape) = match self.random.u32(..5) {
            0 => (6, Shape::AclStat),
            1 => (9, Shape::Text),
            2 => (103, Shape::Texts),
            3 => (104, Shape::Int),
            _ => return (107, Shape::Pairs, Body::default(), String::new()),
        };
        (op, shape, body, format!("{path:?}"))
    }
}
