//! The supervisor: a small process that stops the service when its clients are gone.
//!
//! A client that lets go stops the service itself, if it is the last. Clients that are killed cannot;
//! so before a service is started, its starter forks a supervisor, which sleeps in the kernel until
//! nobody holds a reference any more and then does what the last client would have done. It is one per
//! service, needs no program file, no daemon and no polling, and ends with the service.
//!
//! It must survive what its starter does not, and must not keep alive or disturb anything of it: so it
//! leaves the session, closes every descriptor, blocks every signal, stands in `/`, and gives the
//! starter's memory back.
//!
//! A service that procref executes itself (`command`) is its supervisor's child, and so is every process
//! that the service leaves without a parent. Such a supervisor is told of their ends, and ends them all.
//!
//! # What runs in the child
//!
//! A fork of a multi-threaded process may do almost nothing: some other thread may have held the
//! allocator's lock, or any other one, and that thread does not exist in the child. So everything
//! that needs memory is made before the fork, in one mapping, and the child makes only system calls
//! ([signal-safety(7)](https://man7.org/linux/man-pages/man7/signal-safety.7.html)): no allocation, no
//! lock, no panic, no `tracing`. It runs on a stack of its own in that mapping, so that the memory of
//! its parent can be unmapped under it.
//!
//! What a supervisor does stands here, without any system call, as `async` code over [`SupervisorOps`] and the
//! [calls](SetCalls) on its set, so that the model can run it and switch to another process at each step. On
//! Linux every one of these futures is ready when it is polled the first time: a step blocks, as its system
//! call does. So a supervisor polls once, on its own stack, and nothing is allocated for it.

use core::future::Future;
use core::time::Duration;

use crate::crash::{self, Point};
use crate::semset::signal_safe::{Refused, SetCalls, SignalSafeSet};
use crate::spec::LaunchSpec;
use crate::state::Identity;
use crate::state::{Ended, Instance, Lock, Snapshot};

/// What a supervisor can do to the machine, beside the kernel object.
#[expect(
    async_fn_in_trait,
    reason = "a supervisor has one thread, and needs no `Send`"
)]
pub trait SupervisorOps {
    type Calls: SetCalls;

    /// What its sleeps end with, when a child has ended.
    fn limit(&self) -> &<Self::Calls as SetCalls>::Limit;

    /// Lets the next sleep end after so long; `None`: not by time.
    fn set_limit(&self, left: Option<Duration>);

    fn now(&self) -> Duration;

    /// How long [`end`](Self::end) takes at most.
    fn end_limit(&self) -> Duration;

    /// Ends the process and waits until it is gone; false if it cannot be ended.
    async fn end(&self, instance: &Instance) -> bool;

    async fn remove_files(&self);

    fn is_parent(&self) -> bool;

    /// Whether it is the parent of the service, and the service has ended.
    fn has_exited(&self) -> bool;
}

/// What the parent of a service can do beside that.
#[expect(
    async_fn_in_trait,
    reason = "a supervisor has one thread, and needs no `Send`"
)]
pub trait SubreaperOps: SupervisorOps {
    fn child(&self) -> Identity;

    fn ended(&self) -> Option<Ended>;

    /// Tells the starter that the service has ended.
    fn report_exit(&self);

    /// Tells the starter that no process of the service is left.
    fn report_tree_exited(&self);

    /// Nobody listens any more.
    fn close_report(&self);

    /// Ends what the service has left when it ended.
    async fn end_rest(&self);

    async fn end_all(&self);
}

/// What a supervisor that is to be the parent of a service can do before it is.
#[expect(
    async_fn_in_trait,
    reason = "a supervisor has one thread, and needs no `Send`"
)]
pub trait LaunchHandshake {
    type Subreaper: SubreaperOps;
    type Ops: SupervisorOps<Calls = <Self::Subreaper as SupervisorOps>::Calls>;

    /// The port that was chosen for the service.
    fn port(&self) -> u16;

    /// Tells the starter that an older service's processes are still there. False if nobody listens.
    fn report_blocked(&self) -> bool;

    /// Tells the starter that this supervisor is counted, and waits for its word.
    fn report_registered(&self) -> bool;

    /// Tells the starter that the service waits at its gate, and is published.
    fn report_launched(&self, instance: &Instance) -> bool;

    /// Waits for the starter's word that the lock that is shared is its own.
    ///
    /// A starter that dies right after the fork lets go of the lock, and by the time this process takes its
    /// share somebody else may have it: a new starter, whose own supervisor waits for TREE. So nothing
    /// is done before the starter has answered; and this one, which shares a lock with a stranger, goes.
    /// To look whether the starter is alive would not do: a process that dies gives up its locks first.
    async fn await_confirm(&self) -> bool;

    /// Forks the service, which waits at its gate. `None`: it could not, and has told the starter so.
    async fn fork(&self) -> Option<Self::Subreaper>;

    /// What it can do as long as it is nobody's parent.
    fn ops(&self) -> &Self::Ops;
}

type SetOf<O> = SignalSafeSet<<O as SupervisorOps>::Calls>;

type LimitOf<O> = <<O as SupervisorOps>::Calls as SetCalls>::Limit;

/// What a sleep comes to.
enum Slept {
    Done,
    TimeUp,
    /// The service, this process's child, has ended.
    Ended,
}

/// Sleeps in a step until it is done.
async fn sleep<'a, O: SupervisorOps, F>(
    ops: &'a O,
    time: Option<Duration>,
    step: impl Fn(&'a LimitOf<O>) -> F,
) -> Result<Slept, Refused>
where
    F: Future<Output = Result<(), Refused>>,
{
    let deadline = time.and_then(|time| ops.now().checked_add(time));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_sub(ops.now()));
        ops.set_limit(left);
        // Not before the limit is set: a child that ends from here on brings it to its end. One that
        // ended before is found here. The other way round, one in between would be slept through.
        if ops.has_exited() {
            return Ok(Slept::Ended);
        }
        crash::point(Point::AboutToSleep);
        match step(ops.limit()).await {
            Ok(()) => return Ok(Slept::Done),
            Err(Refused::NotNow) if left == Some(Duration::ZERO) => return Ok(Slept::TimeUp),
            Err(Refused::NotNow) => {}
            Err(Refused::Gone) => return Err(Refused::Gone),
        }
    }
}

/// A supervisor's life, from when it is in place.
pub async fn watch<O: SupervisorOps>(set: SetOf<O>, ops: &O) {
    // Whatever goes wrong, the way out is to end: the kernel gives back what is held, the next join
    // sees that there is no supervisor, and starts another.
    let _ = watch_until(set, ops).await;
}

/// The life of a supervisor that is to be a service's parent.
pub async fn launch_and_watch<H: LaunchHandshake>(
    set: SetOf<H::Subreaper>,
    handshake: &H,
    spec: LaunchSpec,
) {
    if let Err(refused) = set.supervise_tree(spec.patience).await {
        if refused == Refused::NotNow {
            handshake.report_blocked();
            clear_up(set, handshake).await;
        }
        return;
    }
    crash::point(Point::SupervisorRegistered);
    if !handshake.report_registered() || !handshake.await_confirm().await {
        let _ = set.step_down().await;
        crash::point(Point::SteppedDown);
        clear_up(set, handshake).await;
        return;
    }
    crash::point(Point::ConfirmReceived);
    let Some(parent) = handshake.fork().await else {
        return;
    };
    let instance = spec.launched(parent.child(), handshake.port());
    let published = set.publish(Some(&instance), spec.generation).await;
    if published.is_ok() {
        crash::point(Point::ServicePublished);
        handshake.report_launched(&instance);
        crash::point(Point::SupervisorReported);
        watch_child(set, &parent).await;
    } else {
        parent.end_all().await;
    }
}

/// A starter that died at once may have left its set, without anybody. So may clients of an instance that had
/// died before, which that starter was to replace: they saw this process counted, and left it to it.
async fn clear_up<H: LaunchHandshake>(set: SetOf<H::Subreaper>, handshake: &H) {
    if set.try_idle().await.is_err() {
        return;
    }
    let _ = match set.snapshot().await {
        // Another one sees to it.
        Ok(snapshot) if snapshot.supervised => set.unlock().await,
        Ok(snapshot) => stop(set, snapshot, handshake.ops()).await,
        Err(refused) => Err(refused),
    };
    crash::point(Point::CleanedUp);
}

/// The life of a supervisor that is the service's parent, from when the instance is published.
async fn watch_child<P: SubreaperOps>(set: SetOf<P>, parent: &P) {
    let _ = watch_start_and_until(set, parent).await;
    // If somebody removed the set, nobody will find the service any more.
    parent.end_all().await;
}

async fn watch_start_and_until<P: SubreaperOps>(set: SetOf<P>, parent: &P) -> Result<(), Refused> {
    if let Start::Serving = watch_start(set, parent).await? {
        parent.close_report();
        if let Watched::Ended = watch_until(set, parent).await? {
            after_end(set, parent).await?;
        }
    }
    Ok(())
}

enum Start {
    Serving,
    Over,
}

/// While the starter waits for the service to be ready. The lock is shared with it.
async fn watch_start<P: SubreaperOps>(set: SetOf<P>, parent: &P) -> Result<Start, Refused> {
    if let Slept::Ended = sleep(parent, None, |limit| set.wait_alone(limit)).await? {
        // The starter is told at once, and clears up. What it does not come to, because it dies, is done
        // below, so the share of the lock is kept until it has let go.
        parent.report_exit();
        crash::point(Point::EndReported);
        parent.end_rest().await;
        parent.report_tree_exited();
        crash::point(Point::GoneReported);
        while set.wait_alone(unlimited(parent)).await == Err(Refused::NotNow) {}
    }
    crash::point(Point::StartSeen);
    let snapshot = set.snapshot().await?;
    let ours = snapshot
        .instance
        .filter(|instance| instance.identity == parent.child());
    if ours.is_some_and(|instance| instance.is_serving()) {
        set.unlock().await?;
        crash::point(Point::SharedLockReleased);
        return Ok(Start::Serving);
    }
    // The starter has died, or could not use the service. Nobody else may.
    let cleared = match ours {
        Some(_) => clear(set, snapshot, parent).await?,
        None => {
            parent.end_all().await;
            // The starter has cleared it, and may have died before it came to the files. With the set, what
            // is left of them would be nobody's.
            if snapshot.instance.is_none() {
                parent.remove_files().await;
            }
            true
        }
    };
    if cleared {
        match set.resign(Lock::Release, parent.ended()).await {
            // Nobody waits for it, and nobody can come while the lock is held.
            Err(Refused::NotNow) => set.remove().await?,
            done => done?,
        }
        crash::point(Point::StartCleared);
    }
    Ok(Start::Over)
}

/// A limit that nothing but a signal ends.
fn unlimited<O: SupervisorOps>(ops: &O) -> &LimitOf<O> {
    ops.set_limit(None);
    ops.limit()
}

/// The service has ended by itself, while it served.
async fn after_end<P: SubreaperOps>(set: SetOf<P>, parent: &P) -> Result<(), Refused> {
    /// How long somebody may have the lock before it is looked whether he has a reference by now.
    const LOOK_AGAIN: Duration = Duration::from_millis(10);

    parent.end_rest().await;
    crash::point(Point::RestEnded);
    loop {
        // Whoever holds it will find it dead, and start it anew under a supervisor of its own, which
        // waits until this one's TREE is gone.
        match set.resign(Lock::Keep, parent.ended()).await {
            Err(Refused::NotNow) => {}
            done => {
                crash::point(Point::Resigned);
                return done;
            }
        }
        // Nobody is left who could, so the set is this process's to remove. Not by sleeping until it can:
        // somebody may enter instead, and would wait for TREE while this one waits for him to go.
        parent.set_limit(Some(LOOK_AGAIN));
        match set.wait_idle(parent.limit()).await {
            Ok(()) => {
                crash::point(Point::FoundIdleAfterEnd);
                let snapshot = set.snapshot().await?;
                return stop(set, snapshot, parent).await;
            }
            Err(Refused::NotNow) => {}
            Err(gone) => return Err(gone),
        }
    }
}

enum Watched {
    Stopped,
    /// The service has ended by itself.
    Ended,
}

async fn watch_until<O: SupervisorOps>(set: SetOf<O>, ops: &O) -> Result<Watched, Refused> {
    loop {
        if let Slept::Ended = sleep(ops, None, |limit| set.wait_idle(limit)).await? {
            return Ok(Watched::Ended);
        }
        crash::point(Point::FoundIdle);
        let snapshot = set.snapshot().await?;
        if snapshot.tree && !ops.is_parent() {
            // The service of today has a supervisor that is its parent, and can end more than one process.
            set.unlock().await?;
            crash::point(Point::Yielded);
            return Ok(Watched::Stopped);
        }
        // One whose start or stop was broken off by a death is not kept warm.
        let serving = snapshot.instance.filter(Instance::is_serving);
        let linger = serving.map_or(0, |instance| instance.linger_ms);
        if linger > 0 {
            set.unlock().await?;
            crash::point(Point::Lingering);
            let linger = Duration::from_millis(linger.into());
            match sleep(ops, Some(linger), |limit| set.wait_client(limit)).await? {
                Slept::Done => continue,
                Slept::Ended => return Ok(Watched::Ended),
                Slept::TimeUp => {}
            }
            // Somebody may have come, and gone again even, since. Only a lock taken together with
            // seeing nobody counts.
            match set.try_idle().await {
                Ok(()) => {}
                Err(Refused::NotNow) => continue,
                Err(gone) => return Err(gone),
            }
            crash::point(Point::LingerOver);
            let again = set.snapshot().await?;
            if again.generation != snapshot.generation {
                // Another instance by now, which has its own time to be kept warm. No crash point: nobody can
                // be made to come and go unseen.
                set.unlock().await?;
                continue;
            }
        }
        let snapshot = set.snapshot().await?;
        stop(set, snapshot, ops).await?;
        return Ok(Watched::Stopped);
    }
}

/// Under the lock, with nobody left.
async fn stop<O: SupervisorOps>(set: SetOf<O>, snapshot: Snapshot, ops: &O) -> Result<(), Refused> {
    if clear(set, snapshot, ops).await? {
        set.remove().await?;
        crash::point(Point::SupervisorRemovedSet);
    }
    Ok(())
}

/// Under the lock: ends the instance and clears it, in the order that the last client keeps. False: it
/// stays, and the lock is released.
async fn clear<O: SupervisorOps>(
    set: SetOf<O>,
    snapshot: Snapshot,
    ops: &O,
) -> Result<bool, Refused> {
    if let Some(instance) = snapshot.instance {
        if instance.keep_orphan {
            // No crash point: this process ends here anyway.
            set.unlock().await?;
            return Ok(false);
        }
        if !instance.hosted {
            let (generation, limit) = (snapshot.generation, ops.end_limit());
            set.publish_stopping(&instance, generation, limit).await?;
            crash::point(Point::SupervisorPublishedStopping);
            if !ops.end(&instance).await {
                // What cannot be stopped keeps its set, for the next client to see. No crash point, as
                // above.
                set.unlock().await?;
                return Ok(false);
            }
        }
    }
    crash::point(Point::SupervisorEndedService);
    set.publish(None, snapshot.generation).await?;
    crash::point(Point::SupervisorPublishedNone);
    ops.remove_files().await;
    crash::point(Point::SupervisorRemovedFiles);
    Ok(true)
}
