//! A storm: on each host links come and go, and networks, members and links fail at random.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use crate::common::Cluster;
use crate::common::host::{Host, WRITER};
use crate::common::netns::Network;
use crate::scene::{MEMBERS, SHORT, Scene, WAIT, one_writer_at_a_time};

/// The variable that sets the length of the long storm.
const SECONDS: &str = "PROCREF_TEST_STORM_SECONDS";

#[test]
fn g1_one_service_writes_at_a_time_in_a_storm() {
    storm(Duration::from_secs(40));
}

#[test]
#[ignore = "takes 10 minutes; scripts/etcd-storm.sh runs it"]
fn g1_one_service_writes_at_a_time_in_a_long_storm() {
    let seconds = std::env::var(SECONDS).map_or(600, |text| text.parse().unwrap());
    storm(Duration::from_secs(seconds));
}

fn storm(time: Duration) {
    Scene::run(SHORT, async |scene| {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = Rng::with_seed(seed);
        let Scene {
            cluster,
            network,
            url,
            ..
        } = scene;
        let hosts = [&scene.a, &scene.b, &scene.c];
        let over = AtomicBool::new(false);
        let ready = thread::scope(|scope| {
            let (url, over) = (&*url, &over);
            let workers = hosts.map(|host| {
                let random = random.fork();
                scope.spawn(move || work(host, url, random, over))
            });
            // The workers end after a panic, too.
            let end = End(over);
            let begun = Instant::now();
            while begun.elapsed() < time && !workers.iter().any(|worker| worker.is_finished()) {
                fail(network, cluster, &mut random);
                thread::sleep(pause(&mut random, SHORT));
            }
            drop(end);
            workers.map(|worker| worker.join().unwrap())
        });
        assert!(!ready.contains(&0), "a host had no service: {ready:?}");

        scene.cluster.wait_ready().await;
        let last = one_writer_at_a_time(&scene.entries()).pop().unwrap();
        let (link, _) = scene.successor(&scene.a, last);
        link.stop();
        let fences = one_writer_at_a_time(&scene.entries());
        println!("ready links {ready:?}, {} instances", fences.len());
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pause(random: &mut Rng, most: Duration) -> Duration {
    most.mul_f64(random.f64())
}

/// Lets networks or a member fail for up to twice the time to live.
fn fail(network: &Network, cluster: &mut Cluster, random: &mut Rng) {
    let time = pause(random, SHORT * 2);
    let member = random.usize(..MEMBERS.len());
    match random.u8(..6) {
        0 => {
            cluster.kill(member);
            thread::sleep(time);
            cluster.restart(member);
        }
        1 => {
            cluster.signal(member, Signal::STOP);
            thread::sleep(time);
            cluster.signal(member, Signal::CONT);
        }
        _ => {
            let mut names = ["a", "b", "c", "m0", "m1", "m2"];
            random.shuffle(&mut names);
            let cut = &names[..random.usize(1..=3)];
            cut.iter().for_each(|name| network.cut(name));
            thread::sleep(time);
            cut.iter().for_each(|name| network.heal(name));
        }
    }
}

/// Starts one link after the other. Returns how many of them were ready.
fn work(host: &Host, url: &str, mut random: Rng, over: &AtomicBool) -> usize {
    let mut ready = 0;
    while !over.load(Ordering::Relaxed) {
        let mut link = host.start(url, &WAIT, WRITER);
        if link.ready().is_some() {
            ready += 1;
            thread::sleep(pause(&mut random, SHORT));
            link.signal(match random.u8(..4) {
                0 => Signal::KILL,
                // The fuse kills it.
                1 => Signal::STOP,
                _ => Signal::TERM,
            });
        }
        let (status, text) = link.wait();
        let is_expected = match status.code() {
            // Released, the service has ended, or the reference was lost.
            Some(0 | 3 | 4) => true,
            Some(1) => text.contains("gave no answer"),
            _ => status.signal() == Some(9),
        };
        assert!(is_expected, "{}: {status}: {text}", host.name);
    }
    ready
}
