//! The protocol: how a process takes a reference to a service, starts the service, and stops it.
//!
//! The engine has no code for a specific operating system. It takes atomic steps on a counted kernel object
//! ([`Object`](crate::kernel::Object)) and uses the machine through [`Platform`](platform::Platform). So the
//! model can run the same code on a simulated machine.
//!
//! # One process
//!
//! A process has one [`Client`](client::Client) for each service. It has at most one reference in the kernel,
//! for any number of handles. Acquiring another handle, or dropping one that is not the last, only changes a
//! counter. All other changes need the client's [`Permit`](client::Permit), which only one future has at a
//! time. The permit, the reference and the transition lock together are a
//! [`Transition`](transition::Transition).
//!
//! # All processes
//!
//! ```text
//!                        ┌────────────────────────────────────────────────────────┐
//!                        │ absent: no object, or an object without an instance    │◄──────┐
//!                        └───────────────────────────┬────────────────────────────┘       │
//!                try_enter: lock and reference, then │ announce                           │
//!                                                    ▼                                    │
//!                        ┌────────────────────────────────────────────────────────┐       │
//!          ┌────────────►│ starting: locked, instance published as not ready      ├──────►│ start failed, or
//!          │             └───────────────────────────┬────────────────────────────┘       │ starter died: stop
//!          │ dead or unhealthy: lock,                │ healthy, on_ready done:            │ the instance, clear
//!          │ stop or recover the instance,           │ publish READY and unlock           │
//!          │ next generation                         ▼ in one step                        │
//!          │             ┌────────────────────────────────────────────────────────┐       │
//!          └─────────────┤ serving: join and leave are one step each, no lock     │       │
//!                        └───────────────────────────┬────────────────────────────┘       │
//!                       leave_last: the lock instead │ (pinned: leave_pinned; a command,  │
//!                       of the last reference        │ or lingering: leave_to_supervisor) │
//!                                                    ▼                                    │
//!                        ┌────────────────────────────────────────────────────────┐       │
//!                        │ stopping: locked, STOPPING published before the signal ├───────┘
//!                        └────────────────────────────────────────────────────────┘
//!                                       wait until the process is dead; clear, unlink, remove
//! ```
//!
//! If a client dies in any of these states, the kernel releases its reference and its lock. The next process
//! that enters, or the supervisor, reads the state and continues from there.
//!
//! # Rules
//!
//! - **R1, stopped means dead.** The stopping process publishes STOPPING first, and waits until the service is dead.
//!   Then it clears the object, unlinks the record and removes the object, in this order ([`stop`], [`release`]).
//! - **R2.** No two instances live at the same time: a start stops a leftover instance first ([`start`]).
//! - **R3.** Every decision is repeated with the lock held ([`acquire`]).
//! - **R4.** The settings of the instance's starter win over those of the client that stops it ([`stop`]).
//! - **R5.** A hosted instance, whose process is a client, is never signaled ([`stop`]).

pub(crate) mod acquire;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod describe;
pub(crate) mod fingerprint;
pub(crate) mod follow;
pub(crate) mod handle;
pub(crate) mod health;
pub(crate) mod pin;
pub(crate) mod platform;
pub(crate) mod recursion;
mod rejoin;
pub(crate) mod release;
pub(crate) mod resolved_instance;
pub(crate) mod shared_wait;
pub(crate) mod start;
pub(crate) mod start_command;
pub(crate) mod stop;
pub(crate) mod stop_service;
pub(crate) mod transition;
pub(crate) mod unhealthy;
pub(crate) mod wait_unlocked;
pub(crate) mod waiting;
