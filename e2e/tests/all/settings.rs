//! Wrong settings: each service ends at once with status 78 and says which setting is wrong, and where it was set.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use e2e::programs;

/// Runs a service with this file, these variables and these flags; good settings end with status 0.
fn check(service: &str, dir: &Path, file: &str, env: &[(&str, &str)], flags: &[&str]) -> Output {
    let path = dir.join("settings.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = Command::new(programs::service(service));
    command.env_clear().envs(env.iter().copied()).args(["--check-config", "--config"]).arg(path).args(flags);
    command.output().unwrap()
}

/// The settings that a service needs.
fn needed(service: &str) -> &'static str {
    if service == "server-svc" { "name = 'it'\ncontent = '.'\n" } else { "name = 'it'\n" }
}

#[test]
fn each_service_names_the_setting_that_is_wrong_and_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    for service in ["membership-svc", "gcs-svc", "server-svc", "gateway"] {
        let good = check(service, dir.path(), needed(service), &[], &[]);
        assert_eq!(good.status.code(), Some(0), "{service}: {good:?}");
        let cases = [
            ("colour = 'blue'\n", &[][..], &[][..], &["unknown setting `colour`", "settings.toml"][..]),
            ("lisen = '127.0.0.1:0'\n", &[], &[], &["`lisen`", "settings.toml", "did you mean `listen`?"]),
            ("listen = 7400\n", &[], &[], &["bad value for `listen`", "7400", "settings.toml"]),
            ("listen = 'here'\n", &[], &[], &["bad value for `listen`", "\"here\"", "settings.toml"]),
            ("", &[("HANDOVER_LISTEN", "nowhere:x")], &[], &["bad value for `listen`", "HANDOVER_LISTEN"]),
            ("", &[], &["--listen", "127.0.0.1"], &["bad value for `listen`", "--listen"]),
            ("drain_timeout = 'soon'\n", &[], &[], &["bad value for `drain_timeout`", "\"soon\""]),
            ("", &[("HANDOVER_NAME", "No Name")], &[], &["bad value for `name`", "HANDOVER_NAME"]),
            ("", &[], &["--cluster", "No Name"], &["bad value for `cluster`", "--cluster"]),
            ("[keepalive]\ninterval = '0s'\n", &[], &[], &["bad value for `keepalive.interval`"]),
            ("[keepalive\n", &[], &[], &["is not valid TOML", "settings.toml"]),
        ];
        for (file, env, flags, words) in cases {
            let refused = check(service, dir.path(), &format!("{}{file}", needed(service)), env, flags);
            assert_refused(service, &refused, words);
        }
        let nameless = needed(service).replace("name = 'it'\n", "");
        let refused = check(service, dir.path(), &nameless, &[], &[]);
        assert_refused(service, &refused, &["`name` is missing", "--name", "HANDOVER_NAME"]);
        let flags = ["--config", "no-such-file.toml"];
        let absent = Command::new(programs::service(service)).env_clear().args(flags).output().unwrap();
        assert_refused(service, &absent, &["no configuration file no-such-file.toml"]);
    }
}

#[test]
fn variables_that_are_not_text_are_refused_if_they_are_settings() {
    let not_text = OsStr::from_bytes(b"caf\xe9");
    for service in ["membership-svc", "gcs-svc", "server-svc", "gateway"] {
        let with = |variable| {
            let mut command = Command::new(programs::service(service));
            command.env_clear().envs([(variable, not_text)]).args(["--check-config", "--name", "it"]);
            command.args((service == "server-svc").then_some("--content=.")).output().unwrap()
        };
        let good = with("OTHER");
        assert_eq!(good.status.code(), Some(0), "{service}: {good:?}");
        assert_refused(service, &with("HANDOVER_LISTEN"), &["HANDOVER_LISTEN is not text"]);
    }
}

#[test]
fn addresses_of_others_and_the_content_are_settings_too() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let absent = absent.to_str().unwrap();
    for (service, flags, words) in [
        ("membership-svc", &["--peers", "not-a-peer"][..], &["bad value for `peers`", "--peers"][..]),
        ("gcs-svc", &["--membership", "no port"], &["bad value for `membership`", "--membership"]),
        ("server-svc", &["--gcs", "no port"], &["bad value for `gcs`", "--gcs"]),
        ("gateway", &["--gcs", "no port"], &["bad value for `gcs`", "--gcs"]),
        ("gateway", &["--detach-ttl", "long"], &["bad value for `sessions.detach_ttl`"]),
        ("server-svc", &["--period", "0ms"], &["bad value for `sessions.period`"]),
        ("server-svc", &["--units", "No Unit"], &["bad value for `units`", "--units"]),
    ] {
        let refused = check(service, dir.path(), needed(service), &[], flags);
        assert_refused(service, &refused, words);
    }
    let mut server = Command::new(programs::service("server-svc"));
    let started = server.env_clear().args(["--name", "it", "--listen", "127.0.0.1:0", "--content", absent]);
    assert_refused("server-svc", &started.output().unwrap(), &["bad value for `content`", absent]);
    let nowhere = Command::new(programs::service("server-svc")).env_clear().args(["--name", "it"]).output();
    assert_refused("server-svc", &nowhere.unwrap(), &["`content` is missing", "--content"]);
}

#[track_caller]
fn assert_refused(service: &str, output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{service}: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert!(text.starts_with(service) && !text.contains("panicked"), "{text:?}");
}
