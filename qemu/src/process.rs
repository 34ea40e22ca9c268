//! Starting programs that must not outlive us.

use std::process::{Child, Command, ExitStatus};
use std::sync::{LazyLock, mpsc};
use std::{io, thread};

use crate::{Error, Result};

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// A thread that lives as long as the process and starts every child.
///
/// PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process (prctl(2)). A test runner gives every
/// test its own thread; a VM shared by several tests would die with the first.
static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::spawn(move || {
        for (mut command, reply) in jobs {
            // The asker may have gone; then its child has no owner and ends.
            if let Err(mpsc::SendError(Ok(mut orphan))) = reply.send(command.spawn()) {
                let _ = orphan.kill();
            }
        }
    });
    sender
});

/// Starts `command` from a thread that outlives the caller's.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    let (reply, answer) = mpsc::channel();
    SPAWNER.send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

/// Starts `program`, to be killed when dropped.
pub(crate) fn start(program: &str, command: Command) -> Result<Owned> {
    spawn(command).map(Owned).map_err(|source| Error::Start { program: program.into(), source })
}

/// A child that is killed with its owner.
#[derive(Debug)]
pub(crate) struct Owned(Child);

impl Owned {
    /// Its status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().map_err(Error::io("asking for the state of a child process"))
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        self.0.wait().map_err(Error::io("waiting for a child process"))
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTools, Launcher as _};

    #[test]
    fn a_child_that_dies_with_its_parent_outlives_the_thread_that_asked_for_it() {
        let sleep = || {
            let mut command = HostTools.command("sleep", &[]);
            command.arg("60");
            start("sleep", command).expect("starts")
        };
        let mut child = thread::spawn(sleep).join().expect("ends");
        // A thread's end is reported before the kernel has quite finished with it.
        thread::sleep(std::time::Duration::from_millis(200));
        assert!(child.ended().expect("is asked").is_none());
    }

    #[test]
    fn a_dropped_child_is_dead() {
        let mut command = Command::new("sh");
        command.args(["-c", "exec sleep 60"]);
        let child = start("sh", command).expect("starts");
        let process = format!("/proc/{}", child.0.id());
        assert!(std::path::Path::new(&process).exists());
        drop(child);
        assert!(!std::path::Path::new(&process).exists());
    }
}
