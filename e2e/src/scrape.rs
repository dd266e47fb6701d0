//! What a process shows over HTTP beside its gRPC port, read as a collector reads it.

use std::collections::BTreeMap;

use model::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deadline::within;

/// The metrics of a process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// What each metric is, by name: counter, gauge or histogram.
    pub types: BTreeMap<String, String>,
    /// Its samples, by name with labels.
    pub samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// The sum of all samples of this name whose labels contain all of `labels`, each written `name="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |sample: &str| {
            sample.split('{').next() == Some(name) && labels.iter().all(|label| sample.contains(label))
        };
        self.samples.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| value).sum()
    }
}

/// An answer over HTTP: its status and its body.
pub async fn fetch(address: &Address, path: &str) -> (u16, String) {
    let answer = async {
        let mut stream = TcpStream::connect(address.as_str()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = within("an answer over HTTP", answer).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("an answer has a status");
    (status, body.to_owned())
}

/// The metrics of a process.
///
/// # Panics
/// If what it shows is not in the format.
pub async fn metrics(address: &Address) -> Metrics {
    let (status, text) = fetch(address, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    let mut metrics = Metrics::default();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').expect("a name and a type");
            let before = metrics.types.insert(name.to_owned(), kind.to_owned());
            assert_eq!(before, None, "{name} is there twice");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            metrics.samples.insert(sample.to_owned(), value.parse().expect("a number"));
        }
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
    metrics
}
