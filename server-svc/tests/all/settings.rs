//! What is wrong with the settings is named.

use model::Address;
use server_svc::config::{Args, Config};
use svc_kit::serve::Listener;
use svc_kit::settings;
use svc_kit::shutdown::Exit;
use tokio_util::sync::CancellationToken;

fn load(file: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.toml");
    std::fs::write(&path, file).unwrap();
    settings::load(Some(&path), [], &Args::default()).map_err(|error| error.to_string())
}

#[test]
fn a_name_and_content_are_all_that_a_server_needs() {
    let config =
        load("name = 'server-1'\ncontent = 'films'\nunits = 'a,b'\n[sessions]\nbackups = 2").unwrap();
    assert_eq!((config.listen.port(), config.params().policy.backups), (7430, 2));
    assert_eq!(config.units.len(), 2);
}

#[test]
fn a_wrong_setting_is_named() {
    for (file, message) in [
        ("", "the setting `content` is missing"),
        ("content = 'x'\nunits = 'No Unit'", "bad value for `units`"),
        ("content = 'x'\ngcs = []", "bad value for `gcs`"),
        ("content = 'x'\n[sessions]\nperiod = '0s'", "bad value for `sessions.period`"),
        ("content = 'x'\n[sessions]\nbackup = 2", "unknown setting `sessions.backup`"),
    ] {
        let complaint = load(&format!("name = 'server-1'\n{file}")).unwrap_err();
        assert!(complaint.starts_with(message), "{complaint}");
    }
}

#[tokio::test]
async fn content_that_cannot_be_served_is_a_wrong_setting() {
    let empty = tempfile::tempdir().unwrap();
    let config = crate::bed::config(&Address::new("127.0.0.1:1"), empty.path());
    let listener = Listener::bind(config.listen, None).await.unwrap();
    let served = server_svc::serve(config, listener, CancellationToken::new(), server_svc::bundled::load);
    let failure = served.await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Settings);
    assert!(failure.to_string().starts_with("bad value for `content`: "), "{failure}");
}
