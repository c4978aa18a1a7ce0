//! Forty tests. With `cargo nextest run` each is a process of its own.

use procref::Result;
use procref_demo_nextest::Redis;

/// How much each test has to do.
const ROUNDS: u32 = 1000;

/// Every test has keys of its own, because they all use one database at the same time.
fn key(kind: &str, test: &str) -> String {
    format!("{kind}:{test}:{}", std::process::id())
}

/// The migrations ran in one process, before this test got in.
fn is_migrated(redis: &mut Redis) -> Result<()> {
    assert_eq!(redis.ask("GET migrated")?, "1");
    assert_eq!(redis.ask("HGET colour:1 name")?, "blue");
    Ok(())
}

fn counts(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    is_migrated(&mut redis)?;
    let key = key("count", test);
    for n in 1..=ROUNDS {
        assert_eq!(redis.ask(&format!("INCR {key}"))?, n.to_string());
    }
    Ok(())
}

fn appends(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    is_migrated(&mut redis)?;
    let key = key("text", test);
    for n in 1..=ROUNDS {
        assert_eq!(redis.ask(&format!("APPEND {key} ab"))?, (2 * n).to_string());
    }
    Ok(())
}

fn queues(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    is_migrated(&mut redis)?;
    let key = key("queue", test);
    for n in 1..=ROUNDS / 2 {
        assert_eq!(redis.ask(&format!("RPUSH {key} job-{n}"))?, "1");
        assert_eq!(redis.ask(&format!("LPOP {key}"))?, format!("job-{n}"));
    }
    Ok(())
}

fn collects(test: &str) -> Result<()> {
    let mut redis = Redis::acquire()?;
    is_migrated(&mut redis)?;
    let key = key("set", test);
    for n in 1..=ROUNDS {
        assert_eq!(redis.ask(&format!("SADD {key} {n}"))?, "1");
    }
    assert_eq!(redis.ask(&format!("SCARD {key}"))?, ROUNDS.to_string());
    Ok(())
}

macro_rules! ten_tests {
    ($($kind:ident)*) => { $(
        mod $kind {
            ten_tests!(@ $kind: a b c d e f g h i j);
        }
    )* };
    (@ $kind:ident: $($name:ident)*) => { $(
        #[test]
        fn $name() -> procref::Result<()> {
            super::$kind(stringify!($name))
        }
    )* };
}

ten_tests!(counts appends queues collects);
