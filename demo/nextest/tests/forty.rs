//! Forty tests that share one Redis. With `cargo nextest run`, each test is a separate process.

use procref::Result;
use procref_demo_nextest::Redis;

/// The number of commands that each test sends.
const ROUNDS: u32 = 1000;

/// Returns a key that no other test uses, because all tests use one database at the same time.
fn unique_key(kind: &str, test: &str) -> String {
    format!("{kind}:{test}:{}", std::process::id())
}

/// Asserts that the migrations ran exactly once before this test.
fn assert_migrated(redis: &mut Redis) -> Result<()> {
    assert_eq!(redis.query("GET migrated")?, "1");
    assert_eq!(redis.query("HGET color:1 name")?, "blue");
    Ok(())
}

fn counter_returns_every_number(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    assert_migrated(&mut redis)?;
    let key = unique_key("count", test);
    for n in 1..=ROUNDS {
        assert_eq!(redis.query(&format!("INCR {key}"))?, n.to_string());
    }
    Ok(())
}

fn text_grows_with_every_append(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    assert_migrated(&mut redis)?;
    let key = unique_key("text", test);
    for n in 1..=ROUNDS {
        let length = redis.query(&format!("APPEND {key} ab"))?;
        assert_eq!(length, (2 * n).to_string());
    }
    Ok(())
}

fn queue_returns_every_job(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    assert_migrated(&mut redis)?;
    let key = unique_key("queue", test);
    for n in 1..=ROUNDS / 2 {
        assert_eq!(redis.query(&format!("RPUSH {key} job-{n}"))?, "1");
        assert_eq!(redis.query(&format!("LPOP {key}"))?, format!("job-{n}"));
    }
    Ok(())
}

fn set_keeps_every_member(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    assert_migrated(&mut redis)?;
    let key = unique_key("set", test);
    for n in 1..=ROUNDS {
        assert_eq!(redis.query(&format!("SADD {key} {n}"))?, "1");
    }
    assert_eq!(redis.query(&format!("SCARD {key}"))?, ROUNDS.to_string());
    Ok(())
}

/// Defines ten tests of each kind. A test passes its own name to the function of its kind.
macro_rules! ten_tests {
    ($($kind:ident)*) => { $(
        mod $kind {
            ten_tests!(@ $kind: key_a key_b key_c key_d key_e key_f key_g key_h key_i key_j);
        }
    )* };
    (@ $kind:ident: $($name:ident)*) => { $(
        #[test]
        fn $name() -> procref::Result<()> {
            super::$kind(stringify!($name))
        }
    )* };
}

ten_tests! {
    counter_returns_every_number
    text_grows_with_every_append
    queue_returns_every_job
    set_keeps_every_member
}
