//! What docs/security.md claims has a test, and the test is there: the page is read, and each name is looked up.

use std::{collections::BTreeSet, fs, path::PathBuf};

/// A file that the page names, and the tests of it that it names.
struct Named {
    file: String,
    functions: Vec<String>,
}

#[test]
fn every_attack_names_its_code_and_a_test_that_exists() {
    let page = read("docs/security.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Attacks")).expect("the section on attacks");
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attack |"));
    let mut tests = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, why, place, test] = cells[..] else { panic!("not four cells: {row}") };
        assert!(!why.is_empty(), "{row}");
        let files = names(place, None);
        assert!(!files.is_empty() && files.iter().all(|named| named.functions.is_empty()), "where? {row}");
        let named = names(test, files.first().map(|named| named.file.as_str()));
        assert!(!named.is_empty(), "no test: {row}");
        for Named { file, functions } in named {
            let source = read(&file);
            // A file named as a whole is one of tests.
            assert!(!functions.is_empty() || tests_of(&source).next().is_some(), "{file} has no test: {row}");
            for function in &functions {
                let name = function.rsplit("::").next().expect("a name");
                assert!(tests_of(&source).any(|test| test == name), "{file} has no test {function}: {row}");
            }
            tests += functions.len();
        }
    }
    assert!(tests > 60, "only {tests} tests were found: is the page read as it is written?");
}

#[test]
fn every_file_and_every_test_in_the_other_documents_exists() {
    for page in [
        "docs/security.md",
        "docs/protocol.md",
        "docs/storage.md",
        "docs/usb.md",
        "docs/architecture.md",
        "docs/decisions.md",
    ] {
        for line in read(page).lines() {
            for Named { file, functions } in names(line, None) {
                let source = read(&file);
                for function in functions {
                    let name = function.rsplit("::").next().expect("a name");
                    assert!(source.contains(&format!("fn {name}(")), "{page}: {file} has no {function}");
                }
            }
        }
    }
}

/// The names of tests in a source file: what has `#[test]` or the like above it, and what a list `cases! { ... }` makes one.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let mut found = BTreeSet::new();
    let mut in_cases = false;
    for (number, line) in lines.iter().enumerate() {
        in_cases = (in_cases || line.starts_with("cases! {")) && *line != "] }";
        let function = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        let mut above = lines[..number].iter().rev().take_while(|line| line.starts_with("#["));
        let is_test = |attribute: &&str| attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test");
        // In a `proptest!` block as well.
        if let Some(function) = function.filter(|_| above.any(is_test)) {
            found.insert(function);
        }
        if in_cases && let Some(case) = line.strip_suffix(',') {
            found.insert(case);
        }
    }
    found.into_iter()
}

/// The files and functions between backticks, each function with the file before it. "same file" is `above`.
fn names(text: &str, above: Option<&str>) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    for (number, part) in text.split('`').enumerate() {
        let is_quoted = number % 2 == 1;
        if !is_quoted {
            if let Some(above) = above.filter(|_| part.contains("same file")) {
                named.push(Named { file: above.to_owned(), functions: Vec::new() });
            }
            continue;
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
        if part.ends_with(".rs") && part.contains('/') {
            named.push(Named { file: part.to_owned(), functions: Vec::new() });
        } else if part.contains('_')
            && part.chars().all(is_name)
            && let Some(last) = named.last_mut()
        {
            last.functions.push(part.to_owned());
        }
    }
    named
}

fn read(path: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
