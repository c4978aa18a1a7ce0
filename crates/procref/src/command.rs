//! stub
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use crate::error::{Error, Result};
use crate::name::ServiceKey;
use crate::record::{self, Executed};
use std::time::Duration;
#[derive(Clone, Copy, Debug, Default)]
pub enum StopSignal { #[default] Term }
impl StopSignal { pub(crate) fn number(self) -> i32 { libc::SIGTERM } }
impl std::str::FromStr for StopSignal { type Err = String; fn from_str(_: &str) -> std::result::Result<Self, String> { Ok(Self::Term) } }
impl std::fmt::Display for StopSignal { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("SIGTERM") } }
/// How a service is stopped: it is asked by this signal, and killed if it is there after the grace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub(crate) signal: StopSignal,
    pub(crate) grace: Duration,
}
pub(crate) struct ServiceLog { pub(crate) file: OwnedFd, pub(crate) path: PathBuf }
impl ServiceLog { pub(crate) fn tail(&self) -> String { std::fs::read_to_string(&self.path).unwrap_or_default() } }
pub(crate) struct Prepared {
    pub(crate) program: CString, pub(crate) args: Vec<CString>, pub(crate) env: Vec<CString>,
    pub(crate) dir: CString, pub(crate) port: u16, pub(crate) null: OwnedFd, pub(crate) log: ServiceLog,
    pub(crate) listener: Option<OwnedFd>, pub(crate) listen_pid: Option<usize>, pub(crate) reserved: Option<OwnedFd>,
    pub(crate) ready: crate::ready::Probe,
}
/// x
#[derive(Debug)]
pub struct ServiceCommand { p: String, args: Vec<String> }
impl ServiceCommand {
    /// x
    pub fn new(p: &str) -> Self { Self { p: p.into(), args: vec![p.into()] } }
    /// x
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, a: I) -> Self { self.args.extend(a.into_iter().map(Into::into)); self }
    pub(crate) fn check(&self, _: &str) -> Result<()> { Ok(()) }
    pub(crate) fn stop_signal(&self) -> StopSignal { StopSignal::Term }
    pub(crate) fn program(&self) -> String { self.p.clone() }
    pub(crate) fn executed(&self, key: &ServiceKey, stop: Stop) -> Executed {
        Executed { line: self.args.clone(), log: record::log_path(key), stop_signal: stop.signal.to_string(), grace_ms: stop.grace.as_millis() as u64 }
    }
    pub(crate) fn prepare(&self, key: &ServiceKey) -> Result<Prepared> {
        let c = |s: &str| CString::new(s).unwrap();
        let path = record::log_path(key);
        let file = std::fs::File::options().append(true).create(true).open(&path)?;
        Ok(Prepared { program: c(&self.p), args: self.args.iter().map(|a| c(a)).collect(), env: vec![c("PATH=/usr/bin:/bin")], dir: c("/"), port: 0,
            null: std::fs::File::open("/dev/null")?.into(), log: ServiceLog { file: file.into(), path }, listener: None, listen_pid: None, reserved: None, ready: crate::ready::Probe })
    }
}
impl Error { pub(crate) fn exec(service: &str, program: &str, r: crate::supervisor::Refusal) -> Self { Self::Message(format!("{service} {program} {r:?}")) } }
