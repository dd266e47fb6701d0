//! A service that is left to chance, under output commit: whoever sends a token, and whenever, it is the token that it was.

use std::collections::BTreeMap;

use ::tokens::Chain;
use e2e::deadline::within;
use e2e::rpc::Client;
use e2e::{Bed, Plan};
use handover_cli::bundle;
use handover_cli::cluster::Service;
use model::Name;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::session::v1::attach_response::Event;
use proto::session::v1::{AttachResponse, CreateSessionResponse};
use tonic::Streaming;

const UNIT: &str = "lighthouse";

/// What a client has heard, by position from 1, and the cursor after each token.
#[derive(Default)]
struct Heard {
    tokens: Vec<(String, bytes::Bytes)>,
    chain: Vec<Chain>,
    server: Option<Name>,
    takeovers: usize,
}

impl Heard {
    /// Listens until the token at this position has come.
    async fn until(&mut self, position: usize, stream: &mut Streaming<AttachResponse>) {
        while self.tokens.len() < position {
            let event = within("a token", stream.message()).await.unwrap().expect("more is to come").event;
            match event {
                Some(Event::Serving(serving)) => {
                    self.server = Some(serving.server.parse().unwrap());
                    self.takeovers += usize::from(serving.takeover);
                }
                Some(Event::Response(response)) => self.takes(&response.payload, response.cursor),
                Some(Event::Merged(_) | Event::Rebuilt(_)) | None => {}
            }
        }
    }

    /// Each token says where it belongs, and what came before it.
    fn takes(&mut self, payload: &[u8], cursor: bytes::Bytes) {
        let token: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let text = token["token"]["text"].as_str().unwrap().to_owned();
        let chain = self.chain.last().copied().unwrap_or(Chain::START).and(&text);
        assert_eq!(token["token"]["position"], self.tokens.len() + 1, "{token}");
        assert_eq!(token["token"]["chain"], chain.to_string(), "something else was said before {token}");
        self.tokens.push((text, cursor));
        self.chain.push(chain);
    }

    /// A client that remembers only so much.
    fn up_to(&self, position: usize) -> Heard {
        Heard {
            tokens: self.tokens[..position].to_vec(),
            chain: self.chain[..position].to_vec(),
            ..Heard::default()
        }
    }

    fn words(&self) -> Vec<&str> {
        self.tokens.iter().map(|(text, _)| text.as_str()).collect()
    }
}

fn request(verb: &str, arguments: &[(&str, Kind)]) -> Struct {
    let value = |kind: Kind| Value { kind: Some(kind) };
    let fields = arguments.iter().map(|(name, kind)| ((*name).to_owned(), value(kind.clone()))).collect();
    Struct { fields: BTreeMap::from([(verb.to_owned(), value(Kind::StructValue(Struct { fields })))]) }
}

/// Opens a session in which many tokens come quickly.
async fn prompted(client: &mut Client) -> CreateSessionResponse {
    let session = client.create(UNIT).await;
    let pace = request("pace", &[("milliseconds", Kind::NumberValue(5.0))]);
    client.send(&session, 0, pace).await.unwrap();
    let text = Kind::StringValue("The keeper".to_owned());
    let prompt = request("prompt", &[("text", text), ("tokens", Kind::NumberValue(10_000.0))]);
    client.send(&session, 0, prompt).await.unwrap();
    session
}

async fn bed() -> Bed {
    Bed::plan(Plan { further: bundle::ALL.to_vec(), ..Plan::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_lost_repeated_or_changed_while_servers_are_killed() {
    let mut bed = bed().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = prompted(&mut client).await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let mut heard = Heard::default();
    for round in 1..=3 {
        heard.until(round * 100, &mut stream).await;
        let victim = [heard.server.expect("somebody serves")];
        bed.kill(&victim).await;
        // What was on its way while nobody read comes first.
        while heard.takeovers < round {
            heard.until(heard.tokens.len() + 1, &mut stream).await;
        }
        heard.until(heard.tokens.len() + 50, &mut stream).await;
        assert_eq!(heard.takeovers, round, "{victim:?} was killed");
        bed.start_again(&victim).await;
    }
    client.close(&session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_back_hears_the_same_tokens_though_server_and_gateway_are_gone() {
    let mut bed = bed().await;
    let gateway = Service::Gateway.name(1);
    let mut client = Client::of(&bed.address(gateway)).await;
    let session = prompted(&mut client).await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let mut heard = Heard::default();
    heard.until(100, &mut stream).await;
    bed.kill(&[heard.server.expect("somebody serves"), gateway]).await;

    let mut client = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let mut again = heard.up_to(70);
    let cursor = again.tokens.last().expect("there are some").1.clone();
    let mut stream = client.attach(&session, cursor).await.unwrap();
    again.until(150, &mut stream).await;
    assert_eq!(heard.words(), again.words()[..heard.tokens.len()]);
    client.close(&session).await.unwrap();
    bed.start_again(&[gateway]).await;
    bed.finish().await;
}
