//! The cost of a dependency: the number of crates, the compile time, and the growth of the program.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::Run;
use crate::error::Result;
use crate::stats::{Measure, Row, Samples, Unit};

struct Program {
    label: &'static str,
    dependencies: String,
    main: &'static str,
}

fn programs() -> Vec<Program> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../procref");
    let own = own.canonicalize().unwrap_or(own);
    let own = own.display();
    let program = |label, dependencies: &str, main| Program {
        label,
        dependencies: dependencies.to_owned(),
        main,
    };
    vec![
        program("nothing", "", "fn main() {}"),
        program(
            "procref",
            &format!("procref = {{ path = {:?} }}", own.to_string()),
            PROCREF,
        ),
        program(
            "procref, without tokio",
            &format!(
                "procref = {{ path = {:?}, default-features = false }}",
                own.to_string()
            ),
            PROCREF,
        ),
        program(
            "procref 0.1.0",
            "procref = \"=0.1.0\"\ntokio = { version = \"1\", features = [\"rt-multi-thread\"] }",
            PUBLISHED,
        ),
        program(
            "lock file + JSON (Rust)",
            "rustix = { version = \"1\", features = [\"fs\"] }\nserde_json = \"1\"",
            LOCK_FILE,
        ),
        program("D-Bus activation", "zbus = \"5\"", DBUS),
        program(
            "SQLite counter",
            "rusqlite = { version = \"0.37\", features = [\"bundled\"] }",
            SQLITE,
        ),
    ]
}

const PROCREF: &str = r#"
fn main() {
    let sleep = procref::ServiceCommand::new("sleep").arg("1").ready(procref::Ready::at_once());
    let service = procref::SharedService::builder("size").command(sleep).build().unwrap();
    drop(service.acquire_blocking().unwrap());
}"#;
const PUBLISHED: &str = r#"
fn main() {
    let service = procref::SharedService::builder("size")
        .on_first_acquire(|| async { Ok(procref::ServiceInfo::new(1, 1)) })
        .build()
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { drop(service.acquire().await.unwrap()) });
}"#;
const LOCK_FILE: &str = r#"
fn main() {
    let lock = std::fs::File::create("lock").unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut shared: serde_json::Value = serde_json::from_slice(&std::fs::read("shared").unwrap()).unwrap();
    shared["count"] = (shared["count"].as_u64().unwrap() + 1).into();
    std::fs::write("shared", shared.to_string()).unwrap();
}"#;
const DBUS: &str = r#"
fn main() {
    let bus = zbus::blocking::Connection::session().unwrap();
    bus.call_method(Some("a.b"), "/a", Some("a.b"), "Attach", &()).unwrap();
}"#;
const SQLITE: &str = r#"
fn main() {
    let database = rusqlite::Connection::open("shared").unwrap();
    database.execute("UPDATE shared SET count = count + 1", []).unwrap();
}"#;

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    if run.effort.quick {
        // This group compiles all dependencies of the contenders again.
        return Ok(Vec::new());
    }
    let [mut crates, mut times, mut sizes] = [Vec::new(), Vec::new(), Vec::new()];
    let mut nothing = None;
    for program in programs() {
        let dir = run.scratch.fresh()?;
        let built = build(&program, &dir)?;
        let row = |value: f64| {
            let mut samples = Samples::default();
            samples.add(value);
            Row::new(program.label, &samples)
        };
        let bare = *nothing.get_or_insert(built.size);
        crates.push(row(built.crates as f64));
        times.push(row(built.nanos));
        sizes.push(row(built.size.saturating_sub(bare) as f64));
        fs::remove_dir_all(dir)?;
    }
    let measure = |id: &'static str, title: &'static str, unit, rows| Measure {
        id: id.into(),
        title: title.into(),
        unit,
        floor: None,
        axis: None,
        rows,
    };
    Ok(vec![
        measure(
            "size-crates",
            "Additional crates of a program",
            Unit::Count,
            crates,
        ),
        measure(
            "size-time",
            "Time to compile a small program that uses it, from nothing",
            Unit::Nanoseconds,
            times,
        ),
        measure(
            "size-binary",
            "Growth of the program, optimized and stripped",
            Unit::Bytes,
            sizes,
        ),
    ])
}

struct Built {
    crates: usize,
    nanos: f64,
    size: u64,
}

fn build(program: &Program, dir: &Path) -> Result<Built> {
    fs::create_dir(dir.join("src"))?;
    fs::write(dir.join("src/main.rs"), program.main)?;
    fs::write(
        dir.join("Cargo.toml"),
        format!(
            "[package]\nname = \"sized\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [dependencies]\n{}\n[profile.release]\nstrip = true\n[workspace]\n",
            program.dependencies
        ),
    )?;
    let cargo = |args: &[&str]| -> Result<Vec<u8>> {
        let mut command = Command::new("cargo");
        command
            .args(args)
            .current_dir(dir)
            .env("CARGO_TARGET_DIR", dir.join("target"));
        let output = command
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!(
            "cargo {args:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into())
    };
    // Downloads are not a part of the compile time.
    cargo(&["fetch", "--quiet"])?;
    let tree = cargo(&[
        "tree",
        "--quiet",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    let mut names: Vec<&str> = std::str::from_utf8(&tree)?.lines().collect();
    names
        .iter_mut()
        .for_each(|name| *name = name.trim_end_matches(" (*)"));
    names.sort_unstable();
    names.dedup();
    let began = Instant::now();
    cargo(&["build", "--quiet", "--release", "--offline"])?;
    Ok(Built {
        // The program itself does not count.
        crates: names.len() - 1,
        nanos: began.elapsed().as_nanos() as f64,
        size: fs::metadata(dir.join("target/release/sized"))?.len(),
    })
}
