//! Writes the seeds of each entry point to DIR/NAME/, where cargo-fuzz begins with them; among them are sessions of a real
//! commissioner, recorded just now.

use std::{fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()));
    for entry_point in fuzzing::ENTRY_POINTS {
        let directory = directory.join(entry_point.name);
        fs::create_dir_all(&directory)?;
        let seeds = (entry_point.seeds)();
        for (number, seed) in seeds.accepted.iter().chain(&seeds.others).enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
