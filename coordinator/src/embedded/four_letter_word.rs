//! The plain words ZooKeeper answers instead of a connect record: `ruok` and the like.

/// The words answered here.
const WORDS: [[u8; 4]; 7] = [*b"ruok", *b"srvr", *b"stat", *b"mntr", *b"cons", *b"envi", *b"isro"];

pub(crate) fn is_known(word: [u8; 4]) -> bool {
    WORDS.contains(&word)
}

/// What the answers tell.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) zxid: i64,
    pub(crate) nodes: usize,
    pub(crate) tree_bytes: usize,
    pub(crate) sessions: usize,
    pub(crate) watches: usize,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) outstanding: usize,
    pub(crate) log_bytes: u64,
    /// Address and session of each connection.
    pub(crate) connections: Vec<(String, i64)>,
}

const VERSION: &str = concat!("3.8.0-ottla-", env!("CARGO_PKG_VERSION"));

/// The answer to a known word.
pub(crate) fn answer(word: [u8; 4], figures: &Figures) -> String {
    match &word {
        b"ruok" => "imok".to_owned(),
        b"isro" => "rw".to_owned(),
        b"cons" => connections(figures),
        b"stat" => format!("{}{}", server(figures), connections(figures)),
        b"mntr" => monitor(figures),
        b"envi" => format!("Environment:\nzookeeper.version={VERSION}\n"),
        _ => server(figures),
    }
}

fn server(figures: &Figures) -> String {
    let Figures { zxid, nodes, received, sent, outstanding, .. } = figures;
    format!(
        "Zookeeper version: {VERSION}\nReceived: {received}\nSent: {sent}\nConnections: {}\n\
         Outstanding: {outstanding}\nZxid: {zxid:#x}\nMode: standalone\nNode count: {nodes}\n",
        figures.connections.len(),
    )
}

fn connections(figures: &Figures) -> String {
    let line = |(address, session): &(String, i64)| format!(" /{address}[1](sid={session:#x})\n");
    figures.connections.iter().map(line).collect::<String>() + "\n"
}

fn monitor(figures: &Figures) -> String {
    let Figures { nodes, tree_bytes, sessions, watches, .. } = figures;
    let Figures { received, sent, outstanding, log_bytes, .. } = figures;
    format!(
        "zk_version\t{VERSION}\nzk_server_state\tstandalone\nzk_packets_received\t{received}\n\
         zk_packets_sent\t{sent}\nzk_num_alive_connections\t{}\n\
         zk_outstanding_requests\t{outstanding}\nzk_znode_count\t{nodes}\n\
         zk_watch_count\t{watches}\nzk_global_sessions\t{sessions}\n\
         zk_approximate_data_size\t{tree_bytes}\nzk_log_bytes\t{log_bytes}\n",
        figures.connections.len(),
    )
}
