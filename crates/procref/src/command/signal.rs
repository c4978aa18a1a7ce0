use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The signal that asks a service to stop.
///
/// Windows has no signals. There, [`Kill`](Self::Kill) ends the service at once, and all others ask it by what
/// it [can be asked by](crate::process#windows). [`Int`](Self::Int) and [`Quit`](Self::Quit), which a
/// terminal sends, do more: the service is created on the console of its starter, if that has one, and
/// Ctrl-Break asks it. It is bound to that console then: a client that is on another one cannot ask it so, a
/// Ctrl-Break that is typed there reaches it, too, and it ends when that console is closed. With every other signal it has
/// a console to itself, without a window, which nobody can close.
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
    /// `SIGTERM`: what most programs take for "end, and tidy up".
    #[default]
    Term,
    /// `SIGINT`: as Ctrl-C. PostgreSQL's fast shutdown.
    Int,
    /// `SIGQUIT`: nginx's graceful shutdown; many other programs leave a core dump.
    Quit,
    /// `SIGHUP`: what a program gets whose terminal is gone.
    Hup,
    /// `SIGUSR1`.
    Usr1,
    /// `SIGUSR2`.
    Usr2,
    /// `SIGWINCH`: Apache's graceful shutdown.
    Winch,
    /// `SIGKILL`: at once, with nothing tidied up.
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

    /// The kernel's number for it.
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

    /// Its number, where the kernel has none: to ask, with or without the console, and to kill.
    #[cfg(windows)]
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Kill => 9,
            _ if self.is_of_terminals() => crate::process::BREAK,
            _ => 15,
        }
    }

    /// Whether a service that is asked by it belongs on its starter's console.
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

/// With or without `SIG`, in any case.
impl FromStr for StopSignal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let found = Self::ALL.into_iter().find(|it| it.name()[3..] == *bare);
        found.ok_or_else(|| {
            let choices = Self::ALL.map(Self::name).join(", ");
            Error::Message(format!(
                "{text:?} is no signal to stop a service with; choose one of {choices}"
            ))
        })
    }
}
