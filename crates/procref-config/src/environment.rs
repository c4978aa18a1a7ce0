//! The variables that running services give to programs.

use std::collections::BTreeMap;
use std::ffi::OsString;

use procref::ServiceInfo;

use crate::running::{RunningService, value_of_dependency};

/// The prefix of the variables for a service's metadata.
pub const METADATA: &str = "PROCREF_META_";

/// The variables about the one service that a program uses.
pub const OWN: [&str; 4] = ["PROCREF_PORT", "PROCREF_PID", "PROCREF_NAME", "PROCREF_DIR"];

/// The variables about a service of a cluster, with the keys of its metadata.
pub const OF_CLUSTER: [(&str, &str); 3] = [
    ("PROCREF_HOST", "host"),
    ("PROCREF_ADDRESS", "address"),
    ("PROCREF_FENCE", "fence"),
];

/// The key of the metadata that only a link sends.
const LINK: &str = "cluster_host";

/// Returns the address for clients on any host, if a service of a cluster has reported it.
pub fn cluster_address(info: &ServiceInfo) -> Option<&str> {
    info.get_metadata(LINK).and(info.get_metadata("address"))
}

/// Variables of an environment. If a name is repeated, the last value counts.
pub type Variables = Vec<(String, OsString)>;

/// Returns a text as the end of a variable's name: upper-case letters, digits, and `_` for all other characters.
pub fn variable_name(text: &str) -> String {
    text.chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        })
        .collect()
}

/// Returns the variables for the dependents of these services: `PROCREF_PORT_NAME`, `PROCREF_PID_NAME`,
/// `PROCREF_DIR_NAME`, and the exports of each configuration.
pub fn of_dependents(services: &[RunningService]) -> Variables {
    let mut variables = Vec::new();
    for service in services {
        let suffix = variable_name(&service.name);
        let (port, pid) = (service.info.port(), service.info.pid());
        if port != 0 {
            variables.push((format!("PROCREF_PORT_{suffix}"), port.to_string().into()));
        }
        variables.push((format!("PROCREF_PID_{suffix}"), pid.to_string().into()));
        let dir = service.dir.clone().into();
        variables.push((format!("PROCREF_DIR_{suffix}"), dir));
        variables.extend(exported(service, services));
    }
    variables
}

/// Returns the variables for the clients of these services. `own` is the service that the client named, if it named one.
pub fn of_clients(services: &[RunningService], own: Option<&RunningService>) -> Variables {
    let mut variables = of_dependents(services);
    variables.extend(own.into_iter().flat_map(about));
    variables
}

/// Returns the variables about the service that a client named.
fn about(service: &RunningService) -> Variables {
    let info = &service.info;
    let mut variables = vec![
        ("PROCREF_NAME".to_owned(), service.name.clone().into()),
        ("PROCREF_PID".to_owned(), info.pid().to_string().into()),
        ("PROCREF_DIR".to_owned(), service.dir.clone().into()),
    ];
    if info.port() != 0 {
        variables.push(("PROCREF_PORT".to_owned(), info.port().to_string().into()));
    }
    // A link sends all of these.
    if info.get_metadata(LINK).is_some() {
        for (name, key) in OF_CLUSTER {
            let value = info.get_metadata(key);
            variables.extend(value.map(|value| (name.to_owned(), value.into())));
        }
    }
    for (key, value) in info.metadata() {
        // The system's texts cannot contain a NUL.
        if !value.contains('\0') {
            variables.push((format!("{METADATA}{}", variable_name(key)), value.into()));
        }
    }
    variables
}

/// Returns the exports of a service. `{port}` and `{dir}` in them are those of the service.
pub fn exported(service: &RunningService, services: &[RunningService]) -> Variables {
    let pairs = service.export.iter();
    pairs
        .map(|(name, value)| {
            let value = procref::fill_in(value, |place| {
                let own = service.value_of(place);
                own.or_else(|| value_of_dependency(place, &service.depends_on, services))
            });
            (name.clone(), value)
        })
        .collect()
}

/// Returns the variables as the keys and values of a JSON object.
pub fn to_json(variables: Variables) -> BTreeMap<String, String> {
    let variables = variables.into_iter();
    variables
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}
