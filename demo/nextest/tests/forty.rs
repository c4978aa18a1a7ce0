//! Forty tests, each a process of its own under `cargo nextest run`.

use std::path::Path;
use std::time::Duration;
use std::{env, fs, process, thread};

use nextest_demo::Redis;

/// Counts, and sees that nobody else has counted with its own key.
fn count(test: u32) {
    let mut redis = Redis::shared().expect("a Redis");
    let key = format!("test-{test}-{}", process::id());
    for expected in 1..=50 {
        let counted = redis.ask(&format!("INCR {key}")).expect("an answer");
        assert_eq!(counted, expected.to_string());
    }
    if let Some(dir) = env::var_os("DEMO_HOLD") {
        hold(Path::new(&dir), redis.pid());
    }
}

/// For the demonstration: tells that it is in the middle, and stays there until it is killed or let go.
fn hold(dir: &Path, redis: u32) {
    let place = dir.join(format!("holding-{}", process::id()));
    fs::write(place, format!("{redis}\n")).expect("write");
    while !dir.join("go").exists() {
        thread::sleep(Duration::from_millis(5));
    }
}

macro_rules! tests {
    ($($name:ident $number:literal)*) => {
        $(#[test]
        fn $name() {
            count($number);
        })*
    };
}

tests! {
    a01 1 a02 2 a03 3 a04 4 a05 5 a06 6 a07 7 a08 8 a09 9 a10 10
    b01 11 b02 12 b03 13 b04 14 b05 15 b06 16 b07 17 b08 18 b09 19 b10 20
    c01 21 c02 22 c03 23 c04 24 c05 25 c06 26 c07 27 c08 28 c09 29 c10 30
    d01 31 d02 32 d03 33 d04 34 d05 35 d06 36 d07 37 d08 38 d09 39 d10 40
}
