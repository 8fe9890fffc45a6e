//! A child process that cannot outlive its test.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long a child may take to go once its output is closed or it was killed.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Output {
    lines: Vec<String>,
    open_streams: u32,
}

#[derive(Debug, Default)]
struct Shared {
    output: Mutex<Output>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(self: Arc<Self>, stream: impl Read + Send + 'static) {
        self.lock().open_streams += 1;
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                self.lock().lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                self.changed.notify_all();
                line.clear();
            }
            self.lock().open_streams -= 1;
            self.changed.notify_all();
        });
    }
}

/// A running child whose standard output and error are kept, line by line; killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    shared: Arc<Shared>,
}

impl Process {
    /// Starts `command` with no standard input.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(command: Command) -> Result<Self> {
        Self::spawn_reading(command, Stdio::null())
    }

    /// Starts `command`; its standard input is what [`Self::write`] gives it.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_with_input(command: Command) -> Result<Self> {
        Self::spawn_reading(command, Stdio::piped())
    }

    fn spawn_reading(mut command: Command, stdin: Stdio) -> Result<Self> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = format!("{command:?}");
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let shared = Arc::new(Shared::default());
        if let Some(stdout) = child.stdout.take() {
            Arc::clone(&shared).read(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            Arc::clone(&shared).read(stderr);
        }
        let input = child.stdin.take();
        Ok(Self { name, child, input, shared })
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// It has none, or none any more.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(bytes)
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every line written so far, both streams together.
    #[must_use]
    pub fn output(&self) -> String {
        self.shared.lock().lines.join("\n")
    }

    /// Waits for a line that contains `needle` and returns it; lines written before the call count.
    ///
    /// # Errors
    /// No such line within `timeout`, or both streams were closed without one; the error holds the output.
    pub fn wait_for(&self, needle: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        let mut output = self.shared.lock();
        let mut seen = 0;
        loop {
            if let Some(line) = output.lines[seen..].iter().find(|line| line.contains(needle)) {
                return Ok(line.clone());
            }
            seen = output.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if output.open_streams == 0 || left.is_zero() {
                let why = if left.is_zero() { "in time" } else { "before the end of its output" };
                bail!("{}: no line with {needle:?} {why}; it wrote:\n{}", self.name, output.lines.join("\n"));
            }
            output = self.shared.changed.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends a signal. One to a process that has ended is no error.
    pub fn signal(&mut self, signal: i32) {
        // Unwaited for, the id is still this child's; waited for, it may be somebody else's.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            // SAFETY: kill takes two integers and touches no memory.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Waits for the end, and for the last of the output.
    ///
    /// # Errors
    /// Still running after `timeout`; the error holds the output.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))? {
                // A grandchild may hold the streams open for ever; the child's own lines are in the pipe already.
                let output = self.shared.lock();
                let drained = Duration::from_secs(1);
                drop(self.shared.changed.wait_timeout_while(output, drained, |output| output.open_streams > 0));
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{}: still running after {timeout:?}; it wrote:\n{}", self.name, self.output());
            }
            thread::sleep(POLL);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop (SIGTERM) and waits for the end.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM);
        self.wait(timeout)
    }

    /// Ends it without a chance to clean up (SIGKILL) and waits for the end.
    ///
    /// # Errors
    /// The kernel keeps it for more than 10 s.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL);
        let status = self.wait(Duration::from_secs(10))?;
        if status.signal() != Some(libc::SIGKILL) {
            bail!("{}: had ended before it was killed: {status}; it wrote:\n{}", self.name, self.output());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- output of {}:\n{}\n---", self.name, self.output());
        }
    }
}
