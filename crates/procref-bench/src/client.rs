//! A client process: it does what it reads, a line each, and tells what that came to.
//!
//! | line | answer |
//! |---|---|
//! | `attach`, `detach` | `ok BEGIN END CPU`: on the common clock, and the processor time that it took, in ns |
//! | `repeat N` | likewise, for N times attach and detach |
//! | `releases N` | `ok BEGIN END CPU NS`: what the detaches of them took together |
//! | `last SECONDS` | `ok BEGIN END CPU N`: as often as that time allows |
//!
//! What fails is answered by `error:` and why. At the end of its input it lets go and ends.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use procref_testkit::observe::now_ns;
use rustix::time::{ClockId, clock_gettime};

use crate::contender::{Client, Contender};
use crate::{Failure, Result};

pub fn run(contender: Contender, site: &Path) -> Result<()> {
    let mut client = match contender.client(site) {
        Ok(client) => client,
        Err(error) => return say(&failure(&error)),
    };
    let mut held = 0;
    say("here")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let (began, cpu) = (now_ns(), cpu_time());
        let mut times = None;
        let done = match words.as_slice() {
            ["attach"] => client.attach().inspect(|()| held += 1),
            ["detach"] => client.detach().inspect(|()| held -= 1),
            ["repeat", count] => repeat(&mut *client, count.parse()?),
            ["releases", count] => {
                releases(&mut *client, count.parse()?).map(|it| times = Some(it))
            }
            ["last", seconds] => {
                let limit = Duration::from_secs_f64(seconds.parse()?);
                last(&mut *client, limit).map(|count| times = Some(count))
            }
            _ => Err(format!("not understood: {line}").into()),
        };
        let (ended, cpu) = (now_ns(), cpu_time() - cpu);
        match (done, times) {
            (Ok(()), None) => say(&format!("ok {began} {ended} {cpu}"))?,
            (Ok(()), Some(times)) => say(&format!("ok {began} {ended} {cpu} {times}"))?,
            (Err(error), _) => say(&failure(&error))?,
        }
    }
    for _ in 0..held {
        client.detach()?;
    }
    Ok(())
}

fn repeat(client: &mut dyn Client, count: u32) -> Result<()> {
    for _ in 0..count {
        client.attach()?;
        client.detach()?;
    }
    Ok(())
}

fn releases(client: &mut dyn Client, count: u32) -> Result<u64> {
    let mut taken = Duration::ZERO;
    for _ in 0..count {
        client.attach()?;
        let began = Instant::now();
        client.detach()?;
        taken += began.elapsed();
    }
    Ok(u64::try_from(taken.as_nanos())?)
}

fn last(client: &mut dyn Client, limit: Duration) -> Result<u64> {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < limit {
        client.attach()?;
        client.detach()?;
        count += 1;
    }
    Ok(count)
}

fn failure(error: &Failure) -> String {
    format!("error: {}", error.to_string().replace('\n', " "))
}

/// One line, at once.
pub fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Processor time of this process so far, in ns.
pub fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
