//! Sends events and replies from an actor to its test.

use std::sync::Mutex;

use procref_testkit::observe;
use procref_testkit::protocol::{Body, Event, Message, Reply};

use crate::output::Output;
use crate::state::lock;

/// Sends messages, one line each.
#[derive(Default)]
pub struct Reporter {
    pub output: Mutex<Output>,
}

impl Reporter {
    pub fn report(&self, event: Event) {
        self.send(Body::Event(event));
    }

    pub fn reply(&self, request: u64, reply: Reply) {
        self.send(Body::Reply(request, reply));
    }

    fn send(&self, body: Body) {
        let mut output = lock(&self.output);
        output.write_line(&line(body));
    }
}

/// Prints an event from a process that has no [`Reporter`].
pub fn print_event(event: Event) {
    Output::default().write_line(&line(Body::Event(event)));
}

fn line(body: Body) -> Vec<u8> {
    let at = observe::now_ns();
    let mut line = serde_json::to_vec(&Message { at, body }).expect("a message as JSON");
    line.push(b'\n');
    line
}
