//! When the process is told to end.

use crate::error::Result;

/// Hears SIGTERM and Ctrl-C from the moment it is made: one that comes while nobody waits is kept.
#[derive(Debug)]
pub(super) struct Stop {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Stop {
    /// Starts to listen, in place of the system's way, which ends the process at once.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
        }
        #[cfg(windows)]
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    /// Returns once the process has been told.
    pub(super) async fn told(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(windows)]
        let _ = self.interrupt.recv().await;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_that_nobody_waits_for_is_kept() {
        let mut stop = Stop::listen().expect("signals can be heard");
        let told = std::process::Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status();
        if told.is_ok_and(|status| status.success()) {
            stop.told().await;
        }
    }
}
