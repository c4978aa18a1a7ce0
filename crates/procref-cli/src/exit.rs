//! The exit codes.

/// The command failed for a reason without a separate code.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration is invalid.
pub(crate) const USAGE: u8 = 2;
/// The service is not running.
pub(crate) const NOT_RUNNING: u8 = 3;
/// Clients hold the service.
pub(crate) const HELD: u8 = 4;
/// A time limit was exceeded.
pub(crate) const TOO_LATE: u8 = 5;
/// `run`: procref or the service failed before the client ran.
pub(crate) const CLIENT_NOT_RUN: u8 = 125;
/// `run`: the client was found and could not be executed.
pub(crate) const CLIENT_NOT_EXECUTABLE: u8 = 126;
/// `run`: the client was not found.
pub(crate) const CLIENT_NOT_FOUND: u8 = 127;

/// The end of `--help`, and a section of the manual page.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    failure
  2    invalid command line or configuration
  3    the service is not running, or no service has the name
  4    clients hold the service, so it was not stopped
  5    a time limit was exceeded
  run exits with its client's code, or with one of these:
  125  the client was not run, because procref or the service failed
  126  the client was found and could not be executed
  127  the client was not found";
