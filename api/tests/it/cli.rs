//! The command line: what it prints, and how it ends.

use std::fs;
use std::path::Path;
use std::process::Output;

use migration::testing::TestDatabase;
use tempfile::TempDir;

use crate::server::{Process, binary, smartpulse};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A run of the binary in a folder, with variables.
fn smartpulse_in(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    binary()
        .args(arguments)
        .current_dir(folder)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// The line of an option in what `config` prints.
fn line<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(&format!("{key} = ")))
        .unwrap_or_else(|| panic!("no {key} in {text}"))
}

#[test]
fn each_command_explains_itself() {
    let help = stdout(&smartpulse(&["--help"]));
    let listed = help.split_once("Commands:\n").unwrap().1;
    let commands: Vec<&str> = listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(
        commands.contains(&"serve") && commands.contains(&"demo"),
        "{help}"
    );
    for command in commands {
        let output = smartpulse(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
        let help = stdout(&output);
        assert!(help.contains("Example") || command == "schema", "{help}");
    }
}

#[test]
fn config_says_what_holds_and_why() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("smartpulse.toml"),
        "retention_hours = 24\nallow_open_access = true\ndatabase_url = \"postgres://app:hidden@db/x\"\nredis_url = \"rediss://:hidden@redis/1\"\nauth_jwt_secret = \"hidden-hidden-hidden-hidden-hidden\"\n[cache]\nlatest_mib = 1\nhistory_mib = 1\n",
    )
    .unwrap();
    fs::write(
        folder.path().join("smartpulse.staging.toml"),
        "[cache]\nhistory_mib = 2\n",
    )
    .unwrap();
    let variables = [
        ("SMARTPULSE_ENVIRONMENT", "staging"),
        ("SMARTPULSE_CACHE_REFERENCE_MIB", "3"),
    ];
    let output = smartpulse_in(
        folder.path(),
        &variables,
        &[
            "config",
            "--cache-ttl-seconds",
            "4",
            "--allow-open-access=false",
        ],
    );
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for (key, value, origin) in [
        ("listen", "\"127.0.0.1:8080\"", "default"),
        ("retention_hours", "24", "smartpulse.toml"),
        ("cache_latest_mib", "1", "smartpulse.toml"),
        ("cache_history_mib", "2", "smartpulse.staging.toml"),
        ("cache_reference_mib", "3", "SMARTPULSE_CACHE_REFERENCE_MIB"),
        ("cache_ttl_seconds", "4", "--cache-ttl-seconds"),
        ("allow_open_access", "false", "--allow-open-access"),
    ] {
        let (told, why) = line(&text, key).split_once(" # ").unwrap();
        assert_eq!(told.trim_end(), format!("{key} = {value}"));
        assert_eq!(why, origin, "{key}");
    }
    // Not to be taken for the real thing when it is read back.
    assert!(
        text.contains("# database_url = \"postgres://app:***@db/x\""),
        "{text}"
    );
    assert!(
        text.contains("# redis_url = \"rediss://:***@redis/1\""),
        "{text}"
    );
    assert!(text.contains("# auth_jwt_secret = \"***\""), "{text}");
    assert!(text.contains("# replica ="), "{text}");
    let help = stdout(&smartpulse_in(
        folder.path(),
        &variables,
        &["serve", "--help"],
    ));
    assert!(
        !text.contains("hidden") && !help.contains("hidden"),
        "{text}{help}"
    );
    // It is a file that would give the same.
    let printed = TempDir::new().unwrap();
    fs::write(printed.path().join("smartpulse.toml"), &text).unwrap();
    let again = smartpulse_in(printed.path(), &[], &["config"]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(line(&stdout(&again), "cache_ttl_seconds").starts_with("cache_ttl_seconds = 4 "));
}

#[test]
fn a_file_counts_for_the_commands_of_a_command() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    fs::write(
        path.join("smartpulse.toml"),
        "database_url = \"sqlite://of-the-file.db\"",
    )
    .unwrap();
    let output = smartpulse_in(path, &[], &["api-key", "list"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(path.join("of-the-file.db").exists());
}

#[test]
fn what_cannot_be_meant_ends_with_2_and_a_way_out() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let refused = |arguments: &[&str], expect: &str| {
        let output = smartpulse_in(path, &[], arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expect), "{}", stderr(&output));
    };
    refused(&["sirve"], "tip: a similar subcommand exists: 'serve'");
    refused(&["serve", "--listen", "nowhere"], "invalid socket address");
    refused(&["demo", "--speed", "0"], "between 0.01 and 100");
    refused(&["demo", "--now", "tomorrow"], "2026-06-01T12:00:00Z");
    fs::write(path.join("smartpulse.toml"), "lisen = \"127.0.0.1:1\"").unwrap();
    refused(
        &["serve"],
        "smartpulse.toml: there is no option `lisen`; did you mean `listen`?",
    );
    fs::write(path.join("smartpulse.toml"), "listen = \"nowhere\"").unwrap();
    refused(&["serve"], "that is what smartpulse.toml says");
    let output = smartpulse_in(path, &[("SMARTPULSE_LISTEN", "nowhere")], &["serve"]);
    assert!(stderr(&output).contains("that is what SMARTPULSE_LISTEN says"));
    let output = smartpulse_in(path, &[], &["serve", "--listen", "nowhere"]);
    assert!(
        !stderr(&output).contains("that is what"),
        "{}",
        stderr(&output)
    );
    // Whatever a file says, there is help.
    fs::write(path.join("smartpulse.toml"), "= 1").unwrap();
    refused(&["serve"], "smartpulse.toml is no TOML");
    assert!(
        smartpulse_in(path, &[], &["serve", "--help"])
            .status
            .success()
    );
}

#[test]
fn what_fails_ends_with_1_and_a_way_out() {
    let folder = TempDir::new().unwrap();
    let failed = |arguments: &[&str], expect: &str| {
        let output = smartpulse_in(folder.path(), &[], arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(expect), "{}", stderr(&output));
    };
    let open = ["--listen", "0.0.0.0:0"];
    failed(&[&["serve"], &open[..]].concat(), "--allow-open-access");
    failed(&[&["demo"], &open[..]].concat(), "--allow-open-access");
    failed(
        &["serve", "--database-url", "mysql://x"],
        "give sqlite://path or postgres://",
    );
    failed(
        &["serve", "--redis-url", "redis:/hidden"],
        "give redis://:password@host",
    );
    failed(
        &["healthcheck", "--listen", "127.0.0.1:1"],
        "does not answer",
    );
}

#[tokio::test]
async fn a_health_check_asks_the_server() {
    let database = TestDatabase::sqlite().await;
    let server = Process::start(database.url());
    let address = server.client.url("");
    let listen = address.strip_prefix("http://").unwrap().to_owned();
    for flags in [&[][..], &["--live"]] {
        let line = [&["healthcheck", "--listen", &listen], flags].concat();
        let output = smartpulse(&line);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    // A port that somebody listens on is not taken twice.
    let output = smartpulse(&[
        "serve",
        "--listen",
        &listen,
        "--database-url",
        database.url(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("is the port taken?"),
        "{}",
        stderr(&output)
    );
    server.kill();
    let output = smartpulse(&["healthcheck", "--listen", &listen]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("does not answer"),
        "{}",
        stderr(&output)
    );
}
