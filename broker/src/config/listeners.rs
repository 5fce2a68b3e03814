//! `listeners` and `advertised.listeners`: names and addresses of the listeners for Kafka clients.

/// What a listener is called where nothing is said.
const PLAINTEXT: &str = "PLAINTEXT";
/// Names that promise what is not there.
const ENCRYPTED: [&str; 3] = ["SSL", "SASL_SSL", "SASL_PLAINTEXT"];

/// A listener for Kafka clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaListener {
    /// Clients that came in by one listener are sent to others of its name.
    pub name: String,
    /// `HOST:PORT` to listen on.
    pub listen: String,
    /// Host and port that clients reach it under; port 0: the one it got.
    pub advertised: Option<(String, u16)>,
}

/// All of a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaListeners {
    /// As configured.
    pub listeners: Vec<KafkaListener>,
    /// Names that are advertised and do not listen.
    pub unknown: Vec<String>,
}

/// One item of a list.
#[derive(Debug, PartialEq, Eq)]
struct Item<'a> {
    name: &'a str,
    host: &'a str,
    port: u16,
}

impl KafkaListeners {
    /// Of checked texts.
    pub(super) fn new(listeners: &str, advertised: &str) -> Self {
        let mut advertised = parse(advertised).unwrap_or_default();
        let listeners = parse(listeners).unwrap_or_default().into_iter().map(|item| {
            let at = advertised.iter().position(|told| told.name == item.name);
            let told = at.map(|at| advertised.swap_remove(at));
            KafkaListener {
                name: item.name.to_owned(),
                listen: format!("{}:{}", item.host, item.port),
                advertised: told.map(|told| (bare(told.host).to_owned(), told.port)),
            }
        });
        let listeners = listeners.collect();
        let unknown = advertised.into_iter().map(|item| item.name.to_owned()).collect();
        Self { listeners, unknown }
    }
}

/// Looks whether a text is a list of listeners; what is wrong with it otherwise.
pub(super) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<Vec<Item<'_>>, String> {
    let mut items: Vec<Item<'_>> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let item = parse_item(item)?;
        if items.iter().any(|other| other.name == item.name) {
            return Err(format!(
                "every listener needs a name of its own, {} is there twice",
                item.name
            ));
        }
        items.push(item);
    }
    Ok(items)
}

fn parse_item(item: &str) -> Result<Item<'_>, String> {
    let (name, address) = item.split_once("://").unwrap_or((PLAINTEXT, item));
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("a listener's name has letters, digits, `_`, `-` and `.`".to_owned());
    }
    if ENCRYPTED.contains(&name) {
        return Err(format!("{name} is not spoken here; listeners are PLAINTEXT, under any name"));
    }
    let (host, port) = address
        .rsplit_once(':')
        .ok_or("NAME://HOST:PORT or HOST:PORT is expected, several separated by commas")?;
    let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    // As Kafka has it, no host is any of them.
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok(Item { name, host, port })
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_as_kafka_writes_them() {
        let listeners = "PLAINTEXT://:9092, INTERNAL://10.0.0.1:9093";
        let read = KafkaListeners::new(listeners, "PLAINTEXT://[2001:db8::1]:80,X://h:1");
        let listener = |name: &str, listen: &str, advertised: Option<(&str, u16)>| KafkaListener {
            name: name.to_owned(),
            listen: listen.to_owned(),
            advertised: advertised.map(|(host, port)| (host.to_owned(), port)),
        };
        let expected = [
            listener("PLAINTEXT", "0.0.0.0:9092", Some(("2001:db8::1", 80))),
            listener("INTERNAL", "10.0.0.1:9093", None),
        ];
        assert_eq!(read.listeners, expected);
        assert_eq!(read.unknown, ["X"]);
        let plain = KafkaListeners::new("127.0.0.1:9092", "");
        assert_eq!(plain.listeners, [listener("PLAINTEXT", "127.0.0.1:9092", None)]);
        assert!(KafkaListeners::new("", "").listeners.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in ["localhost", "A://h:x", "A://h:1,A://h:2", "SSL://h:1", "A b://h:1", "://h:1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
