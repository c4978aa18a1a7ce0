//! Lines of output, and the processor time that they report.

use std::io::Write as _;

use rustix::time::{ClockId, clock_gettime};

use crate::error::Result;

/// Prints a line and flushes the output.
pub fn print_line(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Returns the processor time of this process, in ns.
pub fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
