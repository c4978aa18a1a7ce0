//! Tests of the client alone, without a kernel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake};

use super::*;
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::kernel::Instance;
use crate::name::Name;
use crate::namespace::Namespace;
use crate::process::{Identity, View};
use crate::runtime::poll_once;

type HostClient = Arc<Client<Host>>;

fn client() -> HostClient {
    let namespace = Namespace::new(PathBuf::from("/made-up"), (0, 0), View::default());
    let key = ServiceKey::new(namespace, Name::new("client").expect("a valid name"));
    Arc::new(Client::new(Host, key))
}

fn take_permit(client: &HostClient) -> Permit<Host> {
    client.try_permit().expect("the permit is free")
}

/// Returns a client whose process holds a reference, with one handle.
fn client_in_use() -> HostClient {
    let client = client();
    let instance = Instance::plain(Identity { pid: 0, start: 0 }, 0);
    take_permit(&client).finish(Arc::new(ResolvedInstance {
        instance,
        generation: 1,
        info: ServiceInfo::new(0, 0),
        fingerprint: None,
        definition: BTreeMap::new(),
        process: None,
        death: SharedWait::default(),
        rejoin: OnceLock::new(),
    }));
    client
}

fn drop_last_handle(client: &HostClient) -> Permit<Host> {
    match client.drop_handle() {
        Dropped::Last(last) => last.permit,
        Dropped::NotLast => panic!("it was the last handle"),
    }
}

#[test]
fn last_handle_unshares_the_reference_when_dropped() {
    let client = client_in_use();
    let permit = drop_last_handle(&client);
    assert!(client.try_permit().is_none());
    assert!(matches!(client.shortcut(), Shortcut::None));
    drop(permit);
    assert!(!take_permit(&client).has_other_handles());
}

#[test]
fn reference_is_taken_and_unshared_only_without_other_handles() {
    let client = client_in_use();
    let mut permit = take_permit(&client);
    assert!(permit.is_referenced() && permit.has_other_handles());
    assert!(!permit.take_if_last());
    assert!(matches!(client.drop_handle(), Dropped::NotLast));
    assert!(permit.take_if_last());
    assert!(!permit.is_referenced() && !permit.has_other_handles());
    assert!(matches!(client.shortcut(), Shortcut::None));
    drop(permit);
    assert!(!take_permit(&client).has_other_handles());
}

#[test]
fn reference_is_lost_when_its_object_is_removed() {
    let client = client_in_use();
    let permit = take_permit(&client);
    permit.forget_object();
    assert!(!permit.is_referenced());
    assert!(matches!(client.shortcut(), Shortcut::None));
    // The client holds no reference, so its last handle has none to release.
    drop(permit);
    assert!(matches!(client.drop_handle(), Dropped::NotLast));
}

#[test]
fn permit_is_released_once_when_yielded_to_handles() {
    let client = client_in_use();
    let mut permit = take_permit(&client);
    assert!(permit.yield_to_handles());
    let next = take_permit(&client);
    drop(permit);
    assert!(client.try_permit().is_none());
    drop(next);
    let mut permit = drop_last_handle(&client);
    assert!(!permit.yield_to_handles());
}

/// Counts its wakes.
struct CountingWaker(AtomicU32);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a future that waits for the permit, releases the permit by `release`, and returns the future's output.
fn output_after_release<F: Future>(
    client: &HostClient,
    waiting: F,
    release: impl FnOnce(Permit<Host>),
) -> F::Output {
    let woken = Arc::new(CountingWaker(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(waiting);
    let permit = take_permit(client);
    // Only one waker is kept, although the future is polled twice.
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    release(permit);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    match waiting.poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the permit is free"),
    }
}

#[test]
fn future_waiting_for_the_permit_wakes_when_it_is_released() {
    let yielded = |mut permit: Permit<Host>| assert!(permit.yield_to_handles());
    let client = client_in_use();
    let current = client.known().expect("the client has an instance");
    let rejected = Unhealthy::of(&*current);
    output_after_release(&client, client.permit(), drop);
    output_after_release(&client, client.permit(), yielded);
    for release in [drop, yielded] {
        let access = output_after_release(&client, client.access(Some(rejected)), release);
        assert!(matches!(access, Access::Exclusive(_)));
    }
    // Only a request for the rejected instance waits. Any other instance is shared without a wait, even if
    // its generation is the same. That happens after the object was removed from outside and created again.
    let later = Instance {
        identity: Identity { pid: 1, start: 99 },
        ..current.instance
    };
    for other in [
        Unhealthy::new(2, &current.instance),
        Unhealthy::new(1, &later),
    ] {
        let Poll::Ready(Access::Shared(_)) = poll_once(client.access(Some(other))) else {
            panic!("the reference is shared");
        };
    }
}
