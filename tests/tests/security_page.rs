//! What docs/security.md claims has a test, and the test is there; so is what documents name and link to: the pages are read,
//! and each name is looked up.

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
    let mut tests = 0;
    for attack in section.split("\n#### ").skip(1) {
        let title = attack.lines().next().unwrap_or_default();
        let entries = paragraphs(attack);
        let entry = |label: &str| {
            let mut entries = entries.iter().skip_while(|entry| !entry.starts_with(label));
            // With what is listed below it.
            let first = entries.next().unwrap_or_else(|| panic!("no {label} {title}"));
            entries.take_while(|entry| entry.starts_with("  - ")).fold(first.clone(), |all, next| all + next)
        };
        assert!(entry("- **Stopped by:** ").len() > 20, "{title}");
        let files = names(&entry("- **Code:** "));
        assert!(!files.is_empty() && files.iter().all(|named| named.functions.is_empty()), "where? {title}");
        let named = names(&entry("- **Tests:**"));
        assert!(!named.is_empty(), "no test: {title}");
        files.iter().for_each(|named| drop(read(&named.file)));
        for Named { file, functions } in named {
            let source = read(&file);
            // A file named as a whole is one of tests.
            assert!(!functions.is_empty() || tests_of(&source).next().is_some(), "{file} has no test: {title}");
            for function in &functions {
                let name = function.rsplit("::").next().expect("a name");
                assert!(tests_of(&source).any(|test| test == name), "{file} has no test {function}: {title}");
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
        for paragraph in paragraphs(&read(page)) {
            for Named { file, functions } in names(&paragraph) {
                let source = read(&file);
                for function in functions {
                    let name = function.rsplit("::").next().expect("a name");
                    assert!(source.contains(&format!("fn {name}(")), "{page}: {file} has no {function}");
                }
            }
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let docs = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let mut links = 0;
    for page in docs.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|page| root().join(page))) {
        let text = fs::read_to_string(&page).expect("text");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            assert!(target.exists(), "{}: {link} is not there", page.display());
            if let Some(anchor) = anchor {
                let target = fs::read_to_string(target).expect("text");
                let found = target.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line) == anchor);
                assert!(found, "{}: {link} is no heading", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 200, "only {links} links were found: are the pages read as they are written?");
}

/// What links to a heading call it.
fn anchor_of(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
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

/// Paragraphs, list items, headings and rows of tables: each is one line again, however it was broken.
fn paragraphs(page: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in page.lines() {
        let begins = line.is_empty() || ["- ", "|", "#", "```"].iter().any(|mark| line.trim_start().starts_with(mark));
        match found.last_mut().filter(|_| !begins) {
            Some(last) => last.extend([" ", line.trim_start()]),
            None => found.push(line.to_owned()),
        }
    }
    found
}

/// The files and functions between backticks, each function with the file before it in the same clause.
fn names(text: &str) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    let mut is_about_file = false;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    for (number, part) in text.split('`').enumerate() {
        let is_quoted = number % 2 == 1;
        if !is_quoted {
            is_about_file &= !part.contains(". ") && !part.contains(": ");
        } else if part.ends_with(".rs") && part.contains('/') {
            named.push(Named { file: part.to_owned(), functions: Vec::new() });
            is_about_file = true;
        } else if is_about_file
            && part.contains('_')
            && part.chars().all(is_name)
            && let Some(last) = named.last_mut()
        {
            last.functions.push(part.to_owned());
        }
    }
    named
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
