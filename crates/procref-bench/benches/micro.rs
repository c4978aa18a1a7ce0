//! The cost of a reference inside one process, compared with a plain pair of `semop`, measured by criterion.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use criterion::{Criterion, criterion_group, criterion_main};
use procref::{ServiceInfo, SharedService};
use procref_testkit::kernel::Set;

const HOLD: &str = "PROCREF_BENCH_HOLD";

fn service(dir: &str) -> SharedService {
    SharedService::builder("micro")
        .base_dir(dir)
        .on_first_acquire(|| async { Ok(ServiceInfo::with_pid(std::process::id())) })
        .build()
        .expect("build")
}

/// Runs the process that holds the service. Without it, every client would be the first and the last one.
fn hold(dir: &str) -> ! {
    let handle = service(dir).acquire_blocking().expect("acquire");
    println!("held");
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
    drop(handle);
    std::process::exit(0)
}

fn holder(dir: &str) -> Child {
    let own = std::env::current_exe().expect("own path");
    let mut command = Command::new(own);
    command
        .env(HOLD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut holder = command.spawn().expect("start this program");
    let mut out = std::io::BufReader::new(holder.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut out, &mut String::new()).expect("held");
    holder
}

fn micro(criterion: &mut Criterion) {
    if let Ok(dir) = std::env::var(HOLD) {
        hold(&dir);
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let dir = dir.path().to_str().expect("UTF-8");
    let mut holder = holder(dir);
    let bare = Set::create(0, 128, 0o600).expect("a set");
    let service = service(dir);
    let mut group = criterion.benchmark_group("reference");
    group.bench_function("bare pair", |bencher| {
        bencher.iter(|| bare.up_and_down(0).expect("semop"))
    });
    group.bench_function("re-attach", |bencher| {
        bencher.iter(|| service.acquire_blocking().expect("acquire"));
    });
    let held = service.acquire_blocking().expect("acquire");
    group.bench_function("another handle", |bencher| {
        bencher.iter(|| service.acquire_blocking().expect("acquire"));
    });
    group.finish();
    drop(held);
    bare.remove().expect("remove");
    holder.stdin.take().expect("piped").flush().expect("flush");
    holder.wait().expect("the holder exits");
}

criterion_group!(benches, micro);
criterion_main!(benches);
