use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The signal that stops a service.
///
/// Windows has no signals. There, [`Kill`](Self::Kill) terminates the service at once, and all others use one
/// of the [means that the service has](crate::process#windows). [`Int`](Self::Int) and [`Quit`](Self::Quit),
/// which a terminal sends, do more: the service is created on the console of its starter, if that has one,
/// and is stopped by Ctrl-Break. Such a service is bound to that console. A client on another console cannot
/// stop it in this way. A typed Ctrl-Break reaches the service, and the service exits when the console is
/// closed. With every other signal, the service has its own hidden console.
///
/// ```
/// use procref::StopSignal;
///
/// assert_eq!("int".parse::<StopSignal>()?, StopSignal::Int);
/// assert_eq!(StopSignal::default().to_string(), "SIGTERM");
/// # Ok::<(), procref::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopSignal {
    /// `SIGTERM`: the usual signal for an orderly exit.
    #[default]
    Term,
    /// `SIGINT`, the signal of Ctrl-C: PostgreSQL's fast shutdown.
    Int,
    /// `SIGQUIT`: nginx's graceful shutdown. Many other programs leave a core dump.
    Quit,
    /// `SIGHUP`, the signal of a closed terminal.
    Hup,
    /// `SIGUSR1`.
    Usr1,
    /// `SIGUSR2`.
    Usr2,
    /// `SIGWINCH`: Apache's graceful shutdown.
    Winch,
    /// `SIGKILL`: ends the service at once, without cleanup.
    Kill,
}

impl StopSignal {
    const ALL: [Self; 8] = [
        Self::Term,
        Self::Int,
        Self::Quit,
        Self::Hup,
        Self::Usr1,
        Self::Usr2,
        Self::Winch,
        Self::Kill,
    ];

    /// Returns the kernel's number of the signal.
    #[cfg(unix)]
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Term => libc::SIGTERM,
            Self::Int => libc::SIGINT,
            Self::Quit => libc::SIGQUIT,
            Self::Hup => libc::SIGHUP,
            Self::Usr1 => libc::SIGUSR1,
            Self::Usr2 => libc::SIGUSR2,
            Self::Winch => libc::SIGWINCH,
            Self::Kill => libc::SIGKILL,
        }
    }

    /// Returns procref's number for the signal, because Windows has no signals: stop, stop with Ctrl-Break,
    /// or terminate.
    #[cfg(windows)]
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Kill => 9,
            _ if self.is_of_terminals() => crate::process::BREAK,
            _ => 15,
        }
    }

    /// Returns `true` if the service runs on its starter's console.
    #[cfg(windows)]
    pub(crate) fn is_of_terminals(self) -> bool {
        matches!(self, Self::Int | Self::Quit)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Winch => "SIGWINCH",
            Self::Kill => "SIGKILL",
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Accepts names with or without `SIG`, in any case.
impl FromStr for StopSignal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let found = Self::ALL.into_iter().find(|it| it.name()[3..] == *bare);
        found.ok_or_else(|| {
            let choices = Self::ALL.map(Self::name).join(", ");
            Error::Message(format!(
                "{text:?} is not a stop signal (use one of {choices})"
            ))
        })
    }
}
