//! stub
use std::sync::Arc;
use std::os::fd::BorrowedFd;
use std::time::Instant;
use crate::info::ServiceInfo;
use crate::runtime::BoxFuture;
pub(crate) type Asked = Arc<dyn Fn(&ServiceInfo) -> BoxFuture<bool> + Send + Sync>;
#[allow(dead_code)]
pub(crate) enum Waited { Ready, Alarm, Late { waiting_for: String, last: String } }
pub(crate) struct Probe;
impl Probe {
    pub(crate) fn wait(&self, _: BorrowedFd<'_>, _: Instant, _: &str) -> Waited { Waited::Ready }
    pub(crate) fn callback(&self) -> Option<Asked> { None }
}
