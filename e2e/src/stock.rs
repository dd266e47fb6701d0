//! A stock client: `buf curl`, which takes the same requests as `grpcurl`, and knows the services by reflection alone.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use model::{Address, Name};
use serde_json::{Value, json};

use crate::deadline::until;
use crate::program::{Ended, Program, run};
use crate::{Bed, programs};

const BUF: &str = "@bufbuild/buf@1.75.0";

/// `buf`, installed where `cargo xtask ci` installs it.
pub async fn buf() -> PathBuf {
    let tools = programs::workspace().join("target/tools");
    let buf = tools.join("node_modules/.bin/buf");
    if !buf.exists() {
        let installed = run("npm", |command| {
            command.args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"]).arg(&tools).arg(BUF);
        });
        let installed = installed.await;
        assert!(installed.status.success(), "{installed:?}");
    }
    buf
}

/// One call at a gateway, as in a shell. It prints one JSON object after the other.
pub fn call(buf: &Path, gateway: &Address, method: &str, request: &Value) -> Program {
    Program::start(buf, |command| {
        command.args(["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data"]);
        command.arg(request.to_string());
        command.arg(format!("http://{gateway}/handover.session.v1.SessionService/{method}"));
    })
}

/// What a call answers.
pub async fn answer(buf: &Path, gateway: &Address, method: &str, request: Value) -> Value {
    answered(method, call(buf, gateway, method, &request).end().await)
}

fn answered(method: &str, ended: Ended) -> Value {
    assert!(ended.status.success(), "{method}: {ended:?}");
    serde_json::from_str(&ended.output.join("\n")).unwrap()
}

/// A session in which each request waits for the response to the one before.
pub struct Conversation {
    buf: PathBuf,
    gateway: Address,
    session: Value,
    attached: Program,
    /// How many responses have come.
    heard: usize,
}

impl Conversation {
    /// Opens a session on `unit`.
    pub async fn open(gateway: Address, unit: &str) -> Conversation {
        let buf = buf().await;
        let request = json!({ "parent": format!("contentUnits/{unit}") });
        let created = answer(&buf, &gateway, "CreateSession", request).await;
        let session = json!({ "name": created["name"], "secret": created["secret"] });
        let attached = call(&buf, &gateway, "Attach", &session);
        Conversation { buf, gateway, session, attached, heard: 0 }
    }

    /// The next response, as text.
    pub async fn hear(&mut self) -> String {
        self.heard += 1;
        let heard = self.heard;
        until("a response", async || {
            let responses = self.events("response");
            responses.get(heard - 1).cloned().ok_or_else(|| format!("there are {}", responses.len()))
        })
        .await
        .get("payload")
        .and_then(|payload| String::from_utf8(BASE64_STANDARD.decode(payload.as_str()?).ok()?).ok())
        .expect("responses are text")
    }

    /// The response to a request, or why it was refused.
    pub async fn ask(&mut self, request: &Value) -> String {
        let mut sent = self.session.clone();
        sent["operation"] = request.clone();
        let ended = call(&self.buf, &self.gateway, "SendRequest", &sent).end().await;
        if ended.status.success() { self.hear().await } else { ended.errors }
    }

    /// Asks while the server that serves is killed, waits for another one, and starts the first one again.
    pub async fn ask_while_killing(&mut self, request: &Value, bed: &mut Bed) -> String {
        let servings = self.events("serving");
        let victim: Name = self.server().await.parse().unwrap();
        let killed = [victim];
        let (response, ()) = tokio::join!(self.ask(request), bed.kill(&killed));
        until("another server", async || {
            let now = self.events("serving").len();
            (now > servings.len()).then_some(()).ok_or("there is none")
        })
        .await;
        bed.start_again(&killed).await;
        response
    }

    /// Who serves.
    pub async fn server(&self) -> String {
        until("somebody who serves", async || {
            let servings = self.events("serving");
            let last = servings.last().and_then(|serving| serving["server"].as_str().map(str::to_owned));
            last.ok_or("there is nobody")
        })
        .await
    }

    /// How often a server took over from another one.
    pub fn takeovers(&self) -> usize {
        self.events("serving").iter().filter(|serving| serving["takeover"] == true).count()
    }

    /// Events of a kind, in the order in which they came.
    fn events(&self, kind: &str) -> Vec<Value> {
        let output = self.attached.output().join("\n");
        // The last one may not be there as a whole.
        let told = serde_json::Deserializer::from_str(&output).into_iter::<Value>().map_while(Result::ok);
        told.filter_map(|event| event.get(kind).cloned()).collect()
    }

    /// Ends the session.
    pub async fn close(self) {
        answer(&self.buf, &self.gateway, "CloseSession", self.session).await;
        self.attached.end().await;
    }
}
