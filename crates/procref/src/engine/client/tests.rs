//! A seat by itself: nothing here touches the kernel.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake};

use std::collections::BTreeMap;

use super::*;
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::kernel::Instance;
use crate::name::Name;
use crate::namespace::Namespace;
use crate::process::Identity;
use crate::process::View;
use crate::runtime::poll_once;

type OurSeat = Arc<Client<Host>>;

fn client() -> OurSeat {
    let namespace = Namespace::new(PathBuf::from("/made-up"), (0, 0), View::default());
    let key = ServiceKey::new(namespace, Name::new("seat").expect("a name"));
    Arc::new(Client::new(Host, key))
}

fn free_turn(client: &OurSeat) -> Permit<Host> {
    client.try_permit().expect("nobody has the turn")
}

/// A seat whose process holds a reference, with one handle on it.
fn seat_in_use() -> OurSeat {
    let client = client();
    let instance = Instance::plain(Identity { pid: 0, start: 0 }, 0);
    free_turn(&client).finish(Arc::new(ResolvedInstance {
        instance,
        generation: 1,
        info: ServiceInfo::new(0, 0),
        fingerprint: None,
        definition: BTreeMap::new(),
        process: None,
        death: SharedWait::default(),
    }));
    client
}

fn last(client: &OurSeat) -> Permit<Host> {
    match client.drop_handle() {
        Dropped::Last(permit) => permit,
        Dropped::NotLast => panic!("it was the last handle"),
    }
}

#[test]
fn who_puts_the_last_handle_down_has_the_turn_and_nobody_shares_the_reference_any_more() {
    let client = seat_in_use();
    let permit = last(&client);
    assert!(client.try_permit().is_none());
    assert!(client.share().is_none());
    drop(permit);
    assert!(!free_turn(&client).has_other_handles());
}

#[test]
fn a_reference_is_taken_back_only_without_other_handles_and_then_nobody_shares_it() {
    let client = seat_in_use();
    let mut permit = free_turn(&client);
    assert!(permit.is_referenced() && permit.has_other_handles());
    assert!(!permit.take_if_last());
    assert!(matches!(client.drop_handle(), Dropped::NotLast));
    assert!(permit.take_if_last());
    assert!(!permit.is_referenced() && !permit.has_other_handles());
    assert!(client.share().is_none());
    drop(permit);
    assert!(!free_turn(&client).has_other_handles());
}

#[test]
fn with_its_object_a_reference_is_gone() {
    let client = seat_in_use();
    let permit = free_turn(&client);
    permit.forget_object();
    assert!(!permit.is_referenced());
    assert!(client.share().is_none());
    // Of what is gone there is nothing to give back.
    drop(permit);
    assert!(matches!(client.drop_handle(), Dropped::NotLast));
}

#[test]
fn who_leaves_the_reference_to_others_gives_the_turn_back_once() {
    let client = seat_in_use();
    let mut permit = free_turn(&client);
    assert!(permit.yield_to_handles());
    let next = free_turn(&client);
    drop(permit);
    assert!(client.try_permit().is_none());
    drop(next);
    let mut permit = last(&client);
    assert!(!permit.yield_to_handles());
}

struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits in one way or another while somebody has the turn, which is then given back.
fn waits<F: Future>(
    client: &OurSeat,
    waiting: F,
    give_back: impl FnOnce(Permit<Host>),
) -> F::Output {
    let woken = Arc::new(Woken(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(waiting);
    let permit = free_turn(client);
    // A waker is kept once, however often somebody looks.
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    give_back(permit);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    match waiting.poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the turn is free"),
    }
}

#[test]
fn who_waits_for_the_turn_is_woken_when_it_is_given_back() {
    let others = |mut permit: Permit<Host>| assert!(permit.yield_to_handles());
    let client = seat_in_use();
    let current = client.known().expect("an instance");
    let rejected = Unhealthy::of(&*current);
    waits(&client, client.permit(), drop);
    waits(&client, client.permit(), others);
    for give_back in [drop, others] {
        let place = waits(&client, client.access(Some(rejected)), give_back);
        assert!(matches!(place, Access::Exclusive(_)));
    }
    // The one instance that was not good enough. Any other is shared without waiting, also if its generation is
    // the same, as in a set that was made after somebody removed the last one.
    let later = Instance {
        identity: Identity { pid: 1, start: 99 },
        ..current.instance
    };
    for other in [
        Unhealthy::new(2, &current.instance),
        Unhealthy::new(1, &later),
    ] {
        let Poll::Ready(Access::Shared(_)) = poll_once(client.access(Some(other))) else {
            panic!("it is shared");
        };
    }
}
