//! The settings that `procref_service_set` accepts.

use procref::Mismatch;
use procref_config::spec::ServiceSpec;
use procref_config::value_parsers;

use crate::error::Failure;

const KEYS: &str = "cwd, env.NAME, export.NAME, fingerprint, grace, health, health-timeout, linger, log, mismatch, port, \
     project, ready, runtime-dir, start-timeout, stop-signal, wait-timeout";

/// Changes a setting of a service. Values have the form that they have in `procref.toml`.
pub(crate) fn set(spec: &mut ServiceSpec, key: &str, value: &str) -> Result<(), Failure> {
    let name = spec.name.clone();
    let known = change(spec, key, value).map_err(|reason| {
        Failure::invalid(format!("service `{name}`: invalid `{key}`: {reason}"))
    })?;
    match known {
        true => Ok(()),
        false => Err(Failure::invalid(format!(
            "service `{name}`: unknown key `{key}`; the keys are {KEYS}"
        ))),
    }
}

/// Returns `false` if there is no such key.
fn change(spec: &mut ServiceSpec, key: &str, value: &str) -> Result<bool, String> {
    let variable = |name: &str| match name {
        "" => Err("the name of the variable is missing".to_owned()),
        name if name.contains('=') => Err("the name of the variable contains a `=`".to_owned()),
        name => Ok((name.to_owned(), value.to_owned())),
    };
    if let Some(name) = key.strip_prefix("env.") {
        spec.env.push(variable(name)?);
        return Ok(true);
    }
    if let Some(name) = key.strip_prefix("export.") {
        spec.export.push(variable(name)?);
        return Ok(true);
    }
    match key {
        "cwd" => spec.cwd = Some(value.into()),
        "fingerprint" => spec.fingerprint = Some(value.to_owned()),
        "grace" => spec.grace = Some(value_parsers::duration(value)?),
        "health" => spec.health = Some(value_parsers::health(value)?),
        "health-timeout" => spec.health_timeout = Some(value_parsers::interval(value)?),
        "linger" => spec.linger = Some(value_parsers::duration(value)?),
        "log" => spec.log = Some(value.into()),
        "mismatch" => spec.mismatch = Some(mismatch(value)?),
        "port" => spec.port = Some(value_parsers::port(value)?),
        "project" => spec.project = Some(value.into()),
        "ready" => spec.ready = Some(value_parsers::ready(value)?),
        "runtime-dir" => spec.runtime_dir = Some(value.into()),
        "start-timeout" => spec.start_timeout = Some(value_parsers::interval(value)?),
        "stop-signal" => spec.stop_signal = Some(value_parsers::signal(value)?),
        "wait-timeout" => spec.wait_timeout = Some(value_parsers::duration(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn mismatch(value: &str) -> Result<Mismatch, String> {
    match value {
        "refuse" => Ok(Mismatch::Refuse),
        "join" => Ok(Mismatch::Join),
        "separate" => Ok(Mismatch::Separate),
        _ => Err("choose one of refuse, join, separate".to_owned()),
    }
}
