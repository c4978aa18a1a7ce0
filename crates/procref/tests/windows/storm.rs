//! Clients that come, go and are killed at random for a while.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::stage::Stage;

const CLIENTS: usize = 5;

#[test]
fn in_a_storm_there_are_never_two_and_afterwards_nothing() {
    let seconds = std::env::var("PROCREF_STORM_SECONDS").map_or(10, |it| it.parse().unwrap());
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut slots: Vec<Option<(Client, bool)>> = (0..CLIENTS).map(|_| None).collect();
    let (mut acquired, mut killed) = (0, 0);
    while Instant::now() < end {
        let slot = &mut slots[random.usize(..CLIENTS)];
        let Some((mut client, holds)) = slot.take() else {
            *slot = Some((stage.client(), false));
            continue;
        };
        match (random.u8(..10), holds) {
            // In the middle of whatever it does by then.
            (0..3, false) => {
                client.begin("acquire");
                std::thread::sleep(Duration::from_millis(random.u64(..60)));
                client.kill();
                killed += 1;
            }
            (0..2, true) => {
                client.begin("release");
                std::thread::sleep(Duration::from_millis(random.u64(..30)));
                client.kill();
                killed += 1;
            }
            (2..4, true) => {
                client.kill();
                killed += 1;
            }
            (_, false) => {
                client.acquire();
                acquired += 1;
                *slot = Some((client, true));
            }
            (_, true) => {
                assert_eq!(client.ask("release"), "done", "seed {seed}");
                *slot = Some((client, false));
            }
        }
        stage.check_never_two();
    }
    for (mut client, holds) in slots.into_iter().flatten() {
        if holds {
            assert_eq!(client.ask("release"), "done", "seed {seed}");
        }
    }
    assert!(
        acquired > 0 && killed > 0,
        "{acquired} acquired, {killed} killed"
    );
    stage.check_nothing_left();
}
