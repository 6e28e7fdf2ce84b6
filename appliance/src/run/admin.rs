//! The admin socket: one line of JSON asks, one line of JSON answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use crossbeam::channel::{RecvTimeoutError, bounded};

use super::channels::{ControlHandle, ToControl};
use super::events::Events;
use super::metrics;
use super::privileges::User;
use super::status::{Answer, Ask, Body, EventLine, Request, VERSION};

/// Own limits.
pub(super) mod limits {
    use std::time::Duration;

    /// Connections served at a time; more wait.
    pub(super) const CONNECTIONS: usize = 8;
    /// Octets of a request.
    pub(in crate::run) const REQUEST: u64 = 4_096;
    /// How long the other side may take to ask or to read.
    pub(in crate::run) const PATIENCE: Duration = Duration::from_secs(2);
    /// How long a listener hears nothing at most.
    pub(super) const ALIVE: Duration = Duration::from_secs(5);
}

/// The bound socket; its file is removed with it.
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl AdminSocket {
    /// Binds it, mode 0600. Its folder, if it has to be made, is given to `user`. A file left over by a daemon that is gone is replaced.
    ///
    /// # Errors
    /// Another daemon answers there, or the system says no.
    pub(crate) fn bind(path: &Path, user: &User) -> anyhow::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "{}: another daemon answers there; stop it, or write another `admin`",
                path.display()
            );
        }
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            let new = !folder.exists();
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            if new {
                // So that the socket can be removed at the end.
                user.give(folder).with_context(|| folder.display().to_string())?;
            }
        }
        if std::fs::symlink_metadata(path)
            .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()))
        {
            std::fs::remove_file(path).with_context(|| path.display().to_string())?;
        }
        let listener =
            UnixListener::bind(path).with_context(|| format!("admin socket {}", path.display()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Another handle of what it listens on.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Serves on a thread of its own, until the process ends.
    ///
    /// # Errors
    /// No thread can be made.
    pub(crate) fn serve(&self, control: ControlHandle, events: Events) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let open = Arc::new(AtomicUsize::new(0));
        std::thread::Builder::new().name("pc5-admin".into()).spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    // No descriptors left: others have to close first.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                };
                while open.load(Ordering::Acquire) >= limits::CONNECTIONS {
                    std::thread::sleep(Duration::from_millis(5));
                }
                open.fetch_add(1, Ordering::AcqRel);
                let (control, events, done) = (control.clone(), events.clone(), open.clone());
                let served = std::thread::Builder::new().name("pc5-admin-one".into()).spawn(move || {
                    // Whoever hung up needs no answer.
                    let _ = serve_one(&stream, &control, &events);
                    done.fetch_sub(1, Ordering::AcqRel);
                });
                if served.is_err() {
                    open.fetch_sub(1, Ordering::AcqRel);
                }
            }
        })?;
        Ok(())
    }
}

/// Asks control, and waits for its answer.
pub(crate) fn answer(control: &ControlHandle, ask: Ask) -> Body {
    let (reply, answer) = bounded(1);
    let asked = control.proved.send_timeout(ToControl::Ask(ask, reply), limits::PATIENCE);
    match asked.ok().and_then(|()| answer.recv_timeout(limits::PATIENCE).ok()) {
        Some(Answer { body, .. }) => body,
        None => Body::Failed("the daemon did not answer in time".into()),
    }
}

/// One line an event until the other side hangs up.
fn stream_events(stream: &UnixStream, events: &Events) -> io::Result<()> {
    let mut stream = stream;
    let mut line = |value: serde_json::Value| stream.write_all(format!("{value}\n").as_bytes());
    let Some(listener) = events.listen() else {
        let body = Body::Failed("there are listeners enough; end one of them".into());
        return line(serde_json::to_value(Answer { version: VERSION, body })?);
    };
    line(serde_json::to_value(events.alive())?)?;
    loop {
        match listener.recv_timeout(limits::ALIVE) {
            Ok(event) => line(serde_json::to_value(event)?)?,
            Err(RecvTimeoutError::Timeout) => line(serde_json::to_value(events.alive())?)?,
            // It did not keep up.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn serve_one(stream: &UnixStream, control: &ControlHandle, events: &Events) -> io::Result<()> {
    stream.set_read_timeout(Some(limits::PATIENCE))?;
    stream.set_write_timeout(Some(limits::PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(limits::REQUEST)).read_line(&mut line)?;
    let failed = |why: String| Answer { version: VERSION, body: Body::Failed(why) };
    let answer = match serde_json::from_str::<Request>(&line) {
        Err(e) => failed(format!("request not understood: {e}")),
        Ok(request) if request.version != VERSION => {
            failed(format!("version {} asked, {VERSION} spoken", request.version))
        }
        Ok(Request { ask: Ask::Events, .. }) => return stream_events(stream, events),
        Ok(Request { ask: Ask::Metrics, .. }) => {
            let body = metrics::now(control).map_or_else(Body::Failed, Body::Metrics);
            Answer { version: VERSION, body }
        }
        Ok(request) => Answer { version: VERSION, body: answer(control, request.ask) },
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    let mut stream = stream;
    stream.write_all(text.as_bytes())
}

/// Why a daemon could not be asked.
pub(crate) enum AskError {
    /// Nobody answers at the socket.
    NotReachable(io::Error),
    /// It answered something else.
    Answer(String),
}

/// Asks the daemon behind a socket.
///
/// # Errors
/// [`AskError`].
pub(crate) fn ask(path: &Path, request: &Request) -> Result<Body, AskError> {
    let mut stream = UnixStream::connect(path).map_err(AskError::NotReachable)?;
    let unreachable = AskError::NotReachable;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(AskError::NotReachable)?;
    let mut text = serde_json::to_string(request).map_err(|e| AskError::Answer(e.to_string()))?;
    text.push('\n');
    stream.write_all(text.as_bytes()).map_err(unreachable)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).map_err(AskError::NotReachable)?;
    let answer: Answer = serde_json::from_str(&line)
        .map_err(|e| AskError::Answer(format!("{e}; is the daemon of another version?")))?;
    Ok(answer.body)
}

/// Listens to the daemon's events, until it ends or hangs up.
///
/// # Errors
/// [`AskError`].
pub(crate) fn listen(path: &Path) -> Result<impl Iterator<Item = EventLine> + Send + use<>, AskError> {
    let mut stream = UnixStream::connect(path).map_err(AskError::NotReachable)?;
    let request = Request { version: VERSION, ask: Ask::Events };
    let text = serde_json::to_string(&request).map_err(|e| AskError::Answer(e.to_string()))?;
    writeln!(stream, "{text}").map_err(AskError::NotReachable)?;
    let lines = BufReader::new(stream).lines();
    Ok(lines.map_while(|line| serde_json::from_str(&line.ok()?).ok()))
}
