//! `procref-etcd forget`.

use std::process::ExitCode;
use std::time::Duration;

use super::ForgetArguments;
use crate::error::{Error, Result};
use crate::registry::etcd::{Etcd, Forgotten};

/// Long enough for the longest answer time of a member.
const TTL: Duration = Duration::from_secs(60);

pub(super) async fn run(arguments: ForgetArguments) -> Result<ExitCode> {
    let ForgetArguments { cluster, name } = arguments;
    let failed = |cause: &dyn std::fmt::Display| Error::new(format!("service `{name}`: {cause}"));
    let options = cluster.connect_options()?;
    let mut etcd = Etcd::new(
        &cluster.endpoints(),
        &options,
        cluster.prefix(),
        &name,
        "",
        TTL,
    );
    match etcd.forget().await.map_err(|cause| failed(&cause))? {
        Forgotten::Vanished => println!("`{name}` had vanished; the next link may start it"),
        Forgotten::Nothing => println!("no instance of `{name}` had vanished"),
        Forgotten::Present(instance) => {
            let host =
                instance.map_or_else(|| "a host of another version".to_owned(), |it| it.host);
            return Err(failed(&format_args!(
                "an instance is registered for {host} (stop its clients; if that host is lost, wait until its lease has \
                 ended)"
            )));
        }
    }
    Ok(ExitCode::SUCCESS)
}
