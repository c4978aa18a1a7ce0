//! The life of a supervisor.
//!
//! A client that releases the last reference stops the service itself, but a client that is killed cannot. So
//! the process that starts a service first forks a supervisor. The supervisor sleeps in the kernel until no
//! process holds a reference, and then stops the service like a last client. There is one supervisor per
//! service, and it exits with the service.
//!
//! ```text
//!  1  forked        the supervisor has its own session, blocks every signal, and stands in `/`
//!  2  registered    SUPERVISOR + 1 in the set. A supervisor that launches the service also takes TREE, and shares
//!     |             the transition lock with its starter: the death of either one alone does not release it
//!     |
//!     +-- without a launch: the starter runs the start callback        -> 6
//!     |
//!  3  confirmed     the starter still holds the lock                      otherwise: 8
//!  4  launched      the service is forked, published as not ready, and waits at its gate; if the fork fails: 8
//!  5  starting      wait until the lock is not shared any more: the starter has published READY, or it died
//!     |                the instance serves     -> unlock, 6
//!     |                otherwise               -> stop it, clear, unlink, 8
//!     |
//!  6  watching      sleep until no reference and no pin is left, and own the lock on waking
//!     |                lingering instance      -> unlock, sleep for the linger time or until a client joins
//!     |                service exits by itself -> stop the leftover processes, 8
//!  7  stopping      mark as stopping, stop the instance, clear, unlink, remove the set, exit
//!  8  retired       TREE - 1: a client may start the service again, with another supervisor
//!                      there is another supervisor             -> SUPERVISOR - 1, exit
//!                      the set is removed                      -> exit
//!                      no reference and no pin is left         -> 7
//! ```
//!
//! # Invariants
//!
//! - The code makes no system calls itself. It uses [`SignalSafeSet`] and the traits of [`ops`](crate::ops).
//! - On Linux every future here is ready when it is polled for the first time, because each step blocks as its system
//!   call does. The code is `async` for the model, which switches to another process at each step.
//! - Every error ends the supervisor. The kernel then releases its lock and its registration. The next client
//!   that joins detects that there is no supervisor, and starts another one.

use core::future::Future;
use core::time::Duration;

use crate::crash::{self, Point};
use crate::ops::{LaunchHandshake, SubreaperOps, SupervisorOps};
use crate::semset::signal_safe::{Refused, SetCalls, SignalSafeSet};
use crate::spec::LaunchSpec;
use crate::state::{Instance, Lock, Snapshot};

type SetOf<O> = SignalSafeSet<<O as SupervisorOps>::Calls>;

type LimitOf<O> = <<O as SupervisorOps>::Calls as SetCalls>::Limit;

/// The reason why a sleep ended.
enum Wake {
    /// The step was performed.
    Done,
    TimedOut,
    /// The service, which is a child of this process, has exited.
    ServiceExited,
}

/// The role of a supervisor while it waits until the service is idle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Watching,
    /// The processes of the service have exited, and this process does not hold TREE any more.
    Retired,
}

/// Sleeps until a step is performed, the limit has passed, or the service has exited.
async fn sleep<'a, O: SupervisorOps, F>(
    ops: &'a O,
    role: Role,
    time: Option<Duration>,
    step: impl Fn(&'a LimitOf<O>) -> F,
) -> Result<Wake, Refused>
where
    F: Future<Output = Result<(), Refused>>,
{
    let deadline = time.and_then(|time| ops.now().checked_add(time));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_sub(ops.now()));
        ops.set_limit(left);
        // Set the limit first. If the child exits after that, its signal ends the sleep. The check that
        // follows detects an earlier exit. If the check came first, the supervisor would miss an exit between
        // the check and the limit.
        if ops.has_exited() && role == Role::Watching {
            return Ok(Wake::ServiceExited);
        }
        crash::point(Point::AboutToSleep);
        match step(ops.limit()).await {
            Ok(()) => return Ok(Wake::Done),
            Err(Refused::NotNow) if left == Some(Duration::ZERO) => return Ok(Wake::TimedOut),
            Err(Refused::NotNow) => {}
            Err(Refused::Gone) => return Err(Refused::Gone),
        }
    }
}

/// Runs a supervisor without children, from its registration to its exit.
pub async fn watch<O: SupervisorOps>(set: SetOf<O>, ops: &O) {
    let _ = watch_until_stopped(set, ops, Role::Watching).await;
}

/// Runs a supervisor that launches a service and becomes the parent of its processes.
pub async fn launch_and_watch<H: LaunchHandshake>(
    set: SetOf<H::Subreaper>,
    handshake: &H,
    spec: LaunchSpec,
) {
    if let Err(refused) = set.supervise_tree(spec.patience).await {
        if refused == Refused::NotNow {
            handshake.report_blocked();
            clean_up(set, handshake).await;
        }
        return;
    }
    crash::point(Point::SupervisorRegistered);
    if !handshake.report_registered() || !handshake.await_confirm().await {
        let _ = step_down(set, handshake).await;
        return;
    }
    crash::point(Point::ConfirmReceived);
    let Some(subreaper) = handshake.fork().await else {
        let _ = step_down(set, handshake).await;
        return;
    };
    let instance = spec.launched(subreaper.child(), handshake.port());
    let published = set.publish(Some(&instance), spec.generation).await;
    if published.is_ok() {
        crash::point(Point::ServicePublished);
        handshake.report_launched(&instance);
        crash::point(Point::SupervisorReported);
        watch_child(set, &subreaper).await;
    } else {
        subreaper.stop_tree().await;
    }
}

/// Retires without having launched a service.
///
/// A supervisor that exited instead would leave the dead instance that it should have replaced to nobody: the retired
/// supervisor of that instance may have unregistered because of this one. If the clients of that instance were then
/// killed, the set and the record would stay.
async fn step_down<H: LaunchHandshake>(
    set: SetOf<H::Subreaper>,
    handshake: &H,
) -> Result<(), Refused> {
    set.retire(Lock::Release, None).await?;
    crash::point(Point::SteppedDown);
    handshake.close();
    watch_until_stopped(set, handshake.ops(), Role::Retired).await?;
    crash::point(Point::CleanedUp);
    Ok(())
}

/// Removes the set if no other process does.
///
/// If the starter died before this supervisor was registered, it did not remove the set. A retired supervisor of an
/// earlier instance is still registered then, and removes it.
async fn clean_up<H: LaunchHandshake>(set: SetOf<H::Subreaper>, handshake: &H) {
    handshake.await_release().await;
    if set.try_idle().await.is_err() {
        return;
    }
    let _ = match set.snapshot().await {
        // Another supervisor removes the set.
        Ok(snapshot) if snapshot.supervised => set.unlock().await,
        Ok(snapshot) => stop(set, snapshot, handshake.ops()).await,
        Err(refused) => Err(refused),
    };
    crash::point(Point::CleanedUp);
}

/// Runs a supervisor that is the parent of the service, from the moment when the instance is published.
async fn watch_child<S: SubreaperOps>(set: SetOf<S>, subreaper: &S) {
    let _ = watch_start_and_service(set, subreaper).await;
    // If the set was removed from outside, no other process can find the service, so this process stops it.
    subreaper.stop_tree().await;
}

async fn watch_start_and_service<S: SubreaperOps>(
    set: SetOf<S>,
    subreaper: &S,
) -> Result<(), Refused> {
    match watch_start(set, subreaper).await? {
        Start::Serving => {
            subreaper.close_report();
            let watched = watch_until_stopped(set, subreaper, Role::Watching).await?;
            if let Watched::Stopped = watched {
                return Ok(());
            }
            subreaper.stop_leftovers().await;
            crash::point(Point::LeftoversStopped);
            set.retire(Lock::Keep, subreaper.exit_status()).await?;
            subreaper.leave_tree();
            crash::point(Point::Retired);
        }
        Start::Cleared => {
            set.retire(Lock::Release, subreaper.exit_status()).await?;
            subreaper.leave_tree();
            crash::point(Point::StartCleared);
        }
        Start::Unstoppable => return Ok(()),
    }
    watch_retired(set, subreaper).await
}

/// The result of a start.
enum Start {
    Serving,
    /// The instance is stopped and cleared. This process holds the lock.
    Cleared,
    /// The instance could not be stopped.
    Unstoppable,
}

/// Watches the service until its starter has published it as ready, has cancelled the start, or has died.
/// During this time, the supervisor shares the lock with the starter.
async fn watch_start<S: SubreaperOps>(set: SetOf<S>, subreaper: &S) -> Result<Start, Refused> {
    if let Wake::ServiceExited = sleep(subreaper, Role::Watching, None, |limit| {
        set.wait_alone(limit)
    })
    .await?
    {
        // The starter gets the report immediately, and cleans up. If it dies before it has finished, the code
        // below does the remaining cleanup. So this process keeps its share of the lock until the starter has
        // released the other share.
        subreaper.report_exit();
        crash::point(Point::ExitReported);
        subreaper.stop_leftovers().await;
        subreaper.report_tree_exited();
        crash::point(Point::TreeExitReported);
        while set.wait_alone(unlimited(subreaper)).await == Err(Refused::NotNow) {}
    }
    crash::point(Point::StartSeen);
    let snapshot = set.snapshot().await?;
    let ours = snapshot
        .instance
        .filter(|instance| instance.identity == subreaper.child());
    if ours.is_some_and(|instance| instance.is_serving()) {
        set.unlock().await?;
        crash::point(Point::SharedLockReleased);
        return Ok(Start::Serving);
    }
    // The starter has died, or could not use the service. No other client may use it either.
    let cleared = match ours {
        Some(_) => clear(set, snapshot, subreaper).await?,
        None => {
            subreaper.stop_tree().await;
            // The starter has cleared the instance, but may have died before it removed the files. Remove the
            // files before the set, because no process finds them after that.
            if snapshot.instance.is_none() {
                subreaper.remove_files().await;
            }
            true
        }
    };
    Ok(match cleared {
        true => Start::Cleared,
        false => Start::Unstoppable,
    })
}

/// Returns a limit that only a signal ends.
fn unlimited<O: SupervisorOps>(ops: &O) -> &LimitOf<O> {
    ops.set_limit(None);
    ops.limit()
}

/// Waits until the service is started again or is not used any more. In the second case, removes the set.
///
/// A client that holds a reference detects that the service is dead, and starts it again. But clients may also exit without
/// that: the kernel releases the reference of a program that `procref run` has become. So this process must remain
/// until then. If it exited here, the set of the dead instance would remain until the next client, or `gc`.
async fn watch_retired<S: SubreaperOps>(set: SetOf<S>, subreaper: &S) -> Result<(), Refused> {
    watch_until_stopped(set, subreaper, Role::Retired).await?;
    Ok(())
}

/// The reason why a supervisor stops watching its service.
enum Watched {
    /// The service is stopped, or another supervisor watches it.
    Stopped,
    ServiceExited,
}

async fn watch_until_stopped<O: SupervisorOps>(
    set: SetOf<O>,
    ops: &O,
    role: Role,
) -> Result<Watched, Refused> {
    loop {
        match role {
            Role::Watching => {
                let wake = sleep(ops, role, None, |limit| set.wait_idle(limit)).await?;
                if let Wake::ServiceExited = wake {
                    return Ok(Watched::ServiceExited);
                }
                crash::point(Point::FoundIdle);
            }
            Role::Retired => {
                let slept = sleep(ops, role, None, |limit| set.wait_idle_retired(limit)).await;
                if slept.is_err() {
                    match set.unregister().await {
                        // There is no crash point here, because this process exits right after this step.
                        Ok(()) => return Ok(Watched::Stopped),
                        // The other supervisor is gone again, so this one must clean up.
                        Err(Refused::NotNow) => continue,
                        Err(gone) => return Err(gone),
                    }
                }
                crash::point(Point::FoundIdleAfterExit);
            }
        }
        let snapshot = set.snapshot().await?;
        if snapshot.tree && !ops.is_subreaper() {
            // The supervisor of the current instance is its parent, and can stop all of its processes.
            set.unlock().await?;
            crash::point(Point::Yielded);
            return Ok(Watched::Stopped);
        }
        // A dead instance does not linger, nor does one whose start or stop was interrupted by a death.
        let serving = snapshot.instance.filter(Instance::is_serving);
        let serving = serving.filter(|_| snapshot.ended.is_none());
        let linger = serving.map_or(0, |instance| instance.linger_ms);
        if linger > 0 {
            set.unlock().await?;
            crash::point(Point::Lingering);
            let linger = Duration::from_millis(linger.into());
            match sleep(ops, role, Some(linger), |limit| set.wait_client(limit)).await? {
                Wake::Done => continue,
                Wake::ServiceExited => return Ok(Watched::ServiceExited),
                Wake::TimedOut => {}
            }
            // A client may have joined and left after the sleep. So the lock must be taken in the same step
            // as the check for references.
            match set.try_idle().await {
                Ok(()) => {}
                Err(Refused::NotNow) => continue,
                Err(gone) => return Err(gone),
            }
            crash::point(Point::LingerOver);
            let current = set.snapshot().await?;
            if current.generation != snapshot.generation {
                // This is another instance, which has its own linger time.
                // There is no crash point here, because a test cannot make a client join and leave within one sleep.
                set.unlock().await?;
                continue;
            }
        }
        let snapshot = set.snapshot().await?;
        stop(set, snapshot, ops).await?;
        return Ok(Watched::Stopped);
    }
}

/// Stops the instance and removes the set. Call this with the lock held and no references left.
async fn stop<O: SupervisorOps>(set: SetOf<O>, snapshot: Snapshot, ops: &O) -> Result<(), Refused> {
    if clear(set, snapshot, ops).await? {
        // A note is left if a recovery failed, but the instance became healthy again without another one.
        ops.remove_failure_note().await;
        set.remove().await?;
        crash::point(Point::SupervisorRemovedSet);
    }
    Ok(())
}

/// Stops the instance and clears it, in the same order as the last client. Call this with the lock held.
///
/// Returns `false` if the instance stays. In that case the lock is released.
async fn clear<O: SupervisorOps>(
    set: SetOf<O>,
    snapshot: Snapshot,
    ops: &O,
) -> Result<bool, Refused> {
    if let Some(instance) = snapshot.instance {
        if instance.keep_orphan {
            // There is no crash point here, because this process exits right after this step.
            set.unlock().await?;
            return Ok(false);
        }
        if !instance.hosted {
            let (generation, limit) = (snapshot.generation, ops.stop_limit());
            set.publish_stopping(&instance, generation, limit).await?;
            crash::point(Point::SupervisorPublishedStopping);
            if !ops.stop_instance(&instance).await {
                // Keep the set of a process that cannot be stopped, so that the next client finds the process.
                // There is no crash point here, because this process exits right after this step.
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
