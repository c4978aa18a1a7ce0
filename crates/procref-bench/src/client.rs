//! A client process: it reads commands, one per line, and prints the result of each.
//!
//! | command | result |
//! |---|---|
//! | `attach`, `detach` | `ok BEGIN END CPU`: the times on the common clock and the processor time, in ns |
//! | `repeat N` | the same, for N pairs of attach and detach |
//! | `releases N` | `ok BEGIN END CPU NS`: the total time of the detaches in N pairs |
//! | `last SECONDS` | `ok BEGIN END CPU N`: the number of pairs in this time |
//!
//! The result of a failed command is `error:` with the reason. At the end of the input, the client detaches and exits.

use std::io::BufRead as _;
use std::path::Path;
use std::time::{Duration, Instant};

use procref_testkit::observe::now_ns;

use crate::contender::Contender;
use crate::error::{Failure, Result};
use crate::peers::Client;
use crate::stdio::{cpu_time, print_line};

pub fn run(contender: Contender, site: &Path) -> Result<()> {
    let mut client = match contender.client(site) {
        Ok(client) => client,
        Err(error) => return print_line(&failure(&error)),
    };
    let mut held = 0;
    print_line("ready")?;
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
                releases(&mut *client, count.parse()?).map(|taken| times = Some(taken))
            }
            ["last", seconds] => {
                let limit = Duration::from_secs_f64(seconds.parse()?);
                repeat_for(&mut *client, limit).map(|count| times = Some(count))
            }
            _ => Err(format!("unknown command: {line}").into()),
        };
        let (ended, cpu) = (now_ns(), cpu_time() - cpu);
        match (done, times) {
            (Ok(()), None) => print_line(&format!("ok {began} {ended} {cpu}"))?,
            (Ok(()), Some(times)) => print_line(&format!("ok {began} {ended} {cpu} {times}"))?,
            (Err(error), _) => print_line(&failure(&error))?,
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

fn repeat_for(client: &mut dyn Client, limit: Duration) -> Result<u64> {
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
