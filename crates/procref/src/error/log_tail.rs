use std::fmt;
use std::path::PathBuf;

/// The end of a service's output.
///
/// ```no_run
/// # async fn example(service: procref::SharedService) -> procref::Result<()> {
/// use procref::Error;
///
/// match service.acquire().await {
///     Err(Error::Exited { output, .. }) => {
///         println!("could not start; see {}", output.log.display());
///         println!("last output: {}", output.lines);
///     }
///     acquired => drop(acquired?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogTail {
    /// The file with the output.
    pub log: PathBuf,
    /// The last lines since the start, at most 20 lines and 4 KiB. Empty if there are none.
    pub lines: String,
    /// Advice about the exit of the program. The message shows it before these lines.
    pub(super) advice: String,
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return write!(f, "; no output in {}", self.log.display());
        }
        write!(f, "; last lines of {}:", self.log.display())?;
        self.lines
            .lines()
            .try_for_each(|line| write!(f, "\n    {line}"))
    }
}
