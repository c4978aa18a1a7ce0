//! Allows a start after an instance that vanished.

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};

use super::{Etcd, Unknown};
use crate::registry::Instance;

/// The result of [`Etcd::forget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// An instance had vanished, and the next link may start the service.
    Vanished,
    /// No instance had vanished.
    Nothing,
    /// There is an instance. Nothing was changed.
    Present(Option<Instance>),
}

impl Etcd {
    /// Removes the mark of a start that no orderly stop has followed, if there is no instance.
    ///
    /// # Errors
    /// If no member answers.
    pub async fn forget(&mut self) -> Result<Forgotten, Unknown> {
        let mut tried = 0;
        loop {
            let cause = match self.try_forget().await {
                Ok(forgotten) => return Ok(forgotten),
                Err(cause) => cause,
            };
            let unknown = self.next_member(cause);
            tried += 1;
            if tried >= self.members.len() || unknown.is_refused() {
                return Err(unknown);
            }
        }
    }

    async fn try_forget(&mut self) -> Result<Forgotten, etcd_client::Error> {
        let (inst, started) = (self.key("inst"), self.key("started"));
        let absent = Compare::create_revision(inst.clone(), CompareOp::Equal, 0);
        let txn = Txn::new()
            .when([absent])
            .and_then([TxnOp::delete(started, None)])
            .or_else([TxnOp::get(inst, None)]);
        let response = self.client().await?.txn(txn).await?;
        let first = response.op_responses().into_iter().next();
        Ok(match first {
            Some(TxnOpResponse::Delete(deleted)) if deleted.deleted() > 0 => Forgotten::Vanished,
            Some(TxnOpResponse::Get(range)) => {
                let value = range.kvs().first().map(|kv| kv.value().to_vec());
                Forgotten::Present(value.and_then(|value| serde_json::from_slice(&value).ok()))
            }
            _ => Forgotten::Nothing,
        })
    }
}
