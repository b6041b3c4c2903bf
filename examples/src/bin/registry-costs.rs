//! What the registry costs with 20, 20,000 and 1,000,000 devices: the table of docs/benchmarks.md, which this program writes.
//!
//! `make bench-registry` runs it. Registries are filled by SQL, each device with one key and one certificate, since a
//! commissioning each would take days; then each step is a process of its own, so that its memory can be told. Times are of
//! this machine, and only their growth means anything elsewhere.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the output")]

use std::{
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use cbor_schemas::{ListMode, Profile, ProofLevel};
use commissioner::{
    clock::Clock,
    distribute::current_list,
    issuer::Issuer,
    keys::{self, IssuerKey},
    registry::{DeviceRef, Nickname, Observation, Place, Registry},
    state_dir::StateDir,
    station::Station,
};
use commissioner_cli::cmd::init::initialise;
use commissioning_examples::quiet;
use protocol::key::PrivateKey;
use rand_core::{OsRng, RngCore};
use sqlx::{Connection, SqliteConnection};

const SIZES: [u64; 3] = [20, 20_000, 1_000_000];

/// What is measured, and how often it is done.
const STEPS: [(&str, u32); 9] = [
    ("add a device", 50),
    ("find by ID", 200),
    ("find by the beginning of an ID", 200),
    ("find by the beginning of a thumbprint", 200),
    ("find by nickname", 200),
    ("the first page of devices", 20),
    ("all devices as JSON Lines", 1),
    ("sign a list of revoked keys", 1),
    ("sign a list of members", 1),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [] => table().await,
        [state, size, step] => measure(Path::new(state), size.parse()?, step).await,
        _ => bail!("no arguments, or what this program gives itself"),
    }
}

async fn table() -> Result<()> {
    let mut cells = vec![Vec::new(); STEPS.len()];
    let mut files = Vec::new();
    for size in SIZES {
        let scratch = tempfile::tempdir()?;
        let state = scratch.path().join("state");
        eprintln!("filling a registry with {size} devices ...");
        initialise(&state, Clock::System).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        fill(&state, size).await?;
        files.push(mebibytes(fs::metadata(state.join("registry.sqlite"))?.len()));
        for ((step, _), cells) in STEPS.iter().zip(&mut cells) {
            let out = tokio::process::Command::new(env::current_exe()?)
                .arg(&state)
                .args([&size.to_string(), *step])
                .output()
                .await?;
            ensure!(out.status.success(), "{step}: {}", String::from_utf8_lossy(&out.stderr));
            cells.push(String::from_utf8(out.stdout)?.trim().to_owned());
        }
    }
    println!("| | 20 devices | 20,000 | 1,000,000 |\n|---|---:|---:|---:|");
    for ((step, _), cells) in STEPS.iter().zip(&cells) {
        println!("| {step} | {} |", cells.join(" | "));
    }
    println!("| the file | {} |", files.join(" | "));
    Ok(())
}

/// Does one step, and prints how long each took, and the most memory that the process ever had.
async fn measure(state: &Path, size: u64, step: &str) -> Result<()> {
    let (index, times) = STEPS.iter().enumerate().find(|(_, known)| known.0 == step).context("a step")?;
    let times = times.1;
    let dir = StateDir::open(state)?;
    let registry = Registry::open(&dir, Clock::System, true).await?;
    let middle = nth(size / 2);
    let thumbprint =
        registry.device(&middle.parse()?).await?.keys.first().context("a key")?.thumbprint[..16].to_owned();
    let nickname: Nickname = "kitchen".parse()?;
    registry.set_nickname(&middle.parse().map_err(|_| anyhow::anyhow!("an ID"))?, &nickname).await?;
    let start = Instant::now();
    for time in 0..times {
        match index {
            0 => {
                let device = format!("urn:dev:ops:32473-new-{}-{time}", OsRng.next_u64());
                let observation = Observation {
                    device: device.parse().map_err(|_| anyhow::anyhow!("an ID"))?,
                    key: *PrivateKey::generate(&mut OsRng).public(),
                    generation: 1,
                    profile: Profile::Full,
                    place: Place::Trusted,
                    proof: ProofLevel::Proved,
                };
                registry.observe_key(&observation).await?;
            }
            1..=4 => {
                let name: DeviceRef = match index {
                    1 => middle.as_str(),
                    2 => &middle[..middle.len() - 1],
                    3 => &thumbprint,
                    _ => "kitchen",
                }
                .parse()?;
                // A beginning may be that of several.
                black_box(registry.device(&name).await.is_ok());
            }
            5 => drop(black_box(registry.read().await?.devices(None).await?)),
            6 => export(&registry).await?,
            _ => {
                let mode = if index == 7 { ListMode::Revoked } else { ListMode::Members };
                list(&dir, mode).await?;
            }
        }
    }
    let took = start.elapsed() / times;
    println!("{:.2} ms, {}", took.as_secs_f64() * 1000.0, mebibytes(peak_memory()?));
    Ok(())
}

async fn export(registry: &Registry) -> Result<()> {
    let mut bytes = 0;
    let each = registry.each_device(|device| {
        for key in &device.keys {
            bytes += serde_json::to_string(&device.full_record(key))?.len();
        }
        Ok::<_, anyhow::Error>(())
    });
    each.await?;
    black_box(bytes);
    Ok(())
}

async fn list(dir: &StateDir, mode: ListMode) -> Result<()> {
    let station = Station {
        registry: Registry::open(dir, Clock::System, true).await?,
        issuer: Issuer::new(IssuerKey::load(&dir.issuer_key())?),
        key: keys::load(&dir.station_key())?,
        token: None,
    };
    black_box(current_list(&station, Some(mode), &quiet()).await?);
    Ok(())
}

/// One in a hundred devices has a key that is revoked.
async fn fill(state: &Path, size: u64) -> Result<()> {
    let file = state.join("registry.sqlite");
    let mut database = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?;
    let mut tx = database.begin().await?;
    let mut object = [0; 294];
    for number in 0..size {
        let device = nth(number);
        let key = *PrivateKey::generate(&mut OsRng).public();
        let mut cti = [0; 8];
        OsRng.fill_bytes(&mut cti);
        OsRng.fill_bytes(&mut object);
        let is_revoked = number % 100 == 99;
        sqlx::query("INSERT INTO devices (device, profile, first_seen, last_seen) VALUES ($1, 'full', 1, 1)")
            .bind(&device)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO keys (x, thumbprint, device, ordinal, status, counts_by, provenance, proof, generation, first_seen, \
             last_seen, revoked_at) VALUES ($1, $2, $3, 0, $4, 'certificate', 'proved', 'proved', 1, 1, 1, $5)",
        )
        .bind(&key.x()[..])
        .bind(key.thumbprint().to_string())
        .bind(&device)
        .bind(if is_revoked { "revoked" } else { "active" })
        .bind(is_revoked.then_some(1_i64))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO certificates (cti, x, slot, status, issued_at, key_origin, proof, object) \
             VALUES ($1, $2, 'owner', $3, 1, 'generated', 'proved', $4)",
        )
        .bind(&cti[..])
        .bind(&key.x()[..])
        .bind(if is_revoked { "revoked" } else { "installed" })
        .bind(&object[..])
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut database).await?;
    Ok(())
}

fn nth(number: u64) -> String {
    format!("urn:dev:ops:32473-bench-{number:012x}")
}

/// VmHWM of Linux, in bytes.
fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string(PathBuf::from("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
