//! Every recipe of docs/COOKBOOK.md, executed as it stands there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::server::{Process, without_variables};

/// A block of code: its language and text, and the heading it stands under.
struct Block {
    heading: String,
    language: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut heading = String::new();
    let mut open = false;
    for line in markdown.lines() {
        match (open, line.strip_prefix("```")) {
            (false, Some(language)) => {
                open = true;
                blocks.push(Block {
                    heading: heading.clone(),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (true, Some("")) => open = false,
            (true, _) => {
                let text = &mut blocks.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            }
            (false, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    heading = title.to_owned();
                }
            }
        }
    }
    blocks
}

/// Whether an answer is what the recipe shows, in which `…` stands for anything.
fn matches(shown: &Value, answer: &Value) -> bool {
    match (shown, answer) {
        (Value::String(text), _) if text == "…" => true,
        (Value::Object(shown), Value::Object(answer)) => {
            shown.len() == answer.len()
                && shown
                    .iter()
                    .all(|(key, value)| answer.get(key).is_some_and(|of| matches(value, of)))
        }
        (Value::Array(shown), Value::Array(answer)) => {
            shown.len() == answer.len() && shown.iter().zip(answer).all(|(a, b)| matches(a, b))
        }
        // JavaScript writes 15 for 15.0.
        (Value::Number(shown), Value::Number(answer)) => shown.as_f64() == answer.as_f64(),
        (shown, answer) => shown == answer,
    }
}

#[test]
fn every_recipe_works_as_it_stands() {
    let folder = TempDir::new().unwrap();
    let server = Process::start_in(folder.path(), &["serve"]);
    let programs = folder.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    symlink(
        env!("CARGO_BIN_EXE_smartpulse"),
        programs.join("smartpulse"),
    )
    .unwrap();
    let path = format!("{}:{}", programs.display(), std::env!("PATH"));

    let text = include_str!("../../../docs/COOKBOOK.md");
    let address = server.client.url("");
    let here =
        |text: &str| text.replace("localhost:8080", address.strip_prefix("http://").unwrap());
    // What a block defines, later ones use: each runs after all before it,
    // whose output goes nowhere.
    let mut before = String::new();
    let mut output: Option<String> = None;
    let mut recipes = 0;
    for block in blocks(text) {
        match block.language.as_str() {
            "sh" => {
                let script = here(&block.text);
                output = Some(run(&block.heading, folder.path(), &path, &before, &script));
                // Definitions last; what was written is written.
                before.push_str(&definitions(&script));
                recipes += 1;
            }
            "json" => {
                let printed = output.take().expect("an answer has a command before it");
                let shown: Value = serde_json::from_str(&block.text).expect(&block.heading);
                let answer: Value = serde_json::from_str(&printed)
                    .unwrap_or_else(|_| panic!("{}: {printed}", block.heading));
                assert!(matches(&shown, &answer), "{}: {answer:#}", block.heading);
            }
            "text" => {
                let printed = output.take().expect("an answer has a command before it");
                assert_eq!(printed, block.text, "{}", block.heading);
            }
            other => panic!("{}: nobody runs {other}", block.heading),
        }
    }
    assert!(recipes > 10, "only {recipes} recipes were found");
}

/// The functions that a script defines.
fn definitions(script: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in script.lines() {
        inside |= line.ends_with("() {");
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= line != "}";
    }
    kept
}

fn run(heading: &str, folder: &Path, path: &str, before: &str, script: &str) -> String {
    let mut bash = Command::new("bash");
    without_variables(&mut bash);
    let output = bash
        .args(["-euo", "pipefail", "-c", &format!("{before}\n{script}")])
        .current_dir(folder)
        .env("PATH", path)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{heading}: {printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}
