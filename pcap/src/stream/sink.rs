//! Writing behind the writer, to a file that appears only when it is whole.

use super::{BlockSink, IoChoice, WRITE_BEHIND, WriteSink, uring};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Blocks to a file, pipe or device.
///
/// A file is written under a temporary name beside the target and takes the target's name in
/// [`finish`](BlockSink::finish); before that the target stays as it was. Dropped unfinished, nothing is left. Only
/// [`IoChoice::Here`] waits for the disk.
#[derive(Debug)]
pub struct FileSink(Way);

#[derive(Debug)]
enum Way {
    /// In the caller's thread: pipes and devices, which are no files to be replaced.
    Plain(WriteSink<File>),
    /// In the caller's thread, to a file.
    Here(Here),
    /// By a thread of its own.
    Behind(WriteBehind),
}

impl FileSink {
    /// Makes ready to write `path`.
    pub fn create(path: &Path, choice: IoChoice) -> io::Result<Self> {
        // A link to a file stays a link: the file behind it is replaced.
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let existing = match fs::metadata(&target) {
            Ok(metadata) if metadata.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                let device = OpenOptions::new().write(true).open(&target)?;
                return Ok(Self(Way::Plain(WriteSink::new(device))));
            }
            Ok(metadata) => Some(metadata.permissions()),
            Err(_) => None,
        };
        let (temporary, file) = temporary_beside(&target)?;
        let unfinished = Unfinished(Some(temporary));
        if let Some(permissions) = existing {
            file.set_permissions(permissions)?;
        }
        if choice == IoChoice::Here {
            return Ok(Self(Way::Here(Here { file, target, unfinished })));
        }
        Ok(Self(Way::Behind(WriteBehind::start(file, unfinished, target, choice)?)))
    }
}

impl BlockSink for FileSink {
    type Done = ();

    fn write_block(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        match &mut self.0 {
            Way::Plain(plain) => plain.write_block(full),
            Way::Here(here) => here.write_block(full),
            Way::Behind(behind) => behind.write_block(full),
        }
    }

    fn finish(self, last: Vec<u8>) -> io::Result<()> {
        match self.0 {
            Way::Plain(plain) => plain.finish(last).map(drop),
            Way::Here(here) => here.finish(last),
            Way::Behind(behind) => behind.finish(last),
        }
    }

    fn io_path(&self) -> &str {
        match &self.0 {
            Way::Plain(_) => "write: not a regular file",
            Way::Here(_) => "write: in the caller's thread",
            Way::Behind(behind) => &behind.io_path,
        }
    }
}

/// A new file beside `target`, under a name that nobody has.
fn temporary_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().ok_or(ErrorKind::InvalidFilename)?;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut temporary_name = OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}-{count}.part", std::process::id()));
        let temporary = target.with_file_name(temporary_name);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file that goes away unless it is kept.
#[derive(Debug)]
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn keep_as(mut self, target: &Path) -> io::Result<()> {
        let Some(temporary) = &self.0 else { return Ok(()) };
        fs::rename(temporary, target)?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(temporary) = &self.0 {
            // Nobody is left to be told.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[derive(Debug)]
struct Here {
    file: File,
    target: PathBuf,
    unfinished: Unfinished,
}

impl Here {
    fn write_block(&mut self, mut full: Vec<u8>) -> io::Result<Vec<u8>> {
        self.file.write_all(&full)?;
        full.clear();
        Ok(full)
    }

    fn finish(mut self, last: Vec<u8>) -> io::Result<()> {
        self.file.write_all(&last)?;
        self.unfinished.keep_as(&self.target)
    }
}

#[derive(Debug)]
struct WriteBehind {
    /// Full blocks; taken away to end the thread.
    full: Option<UnboundedSender<Vec<u8>>>,
    empty: mpsc::Receiver<io::Result<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    /// Blocks with the thread.
    under_way: usize,
    io_path: String,
    target: PathBuf,
    unfinished: Option<Unfinished>,
}

impl WriteBehind {
    fn start(file: File, unfinished: Unfinished, target: PathBuf, choice: IoChoice) -> io::Result<Self> {
        let (full, blocks) = unbounded_channel();
        let (done, empty) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let thread =
            thread::Builder::new().name("pc5-write".to_owned()).spawn(move || {
                match uring::runtime(choice) {
                    Ok(runtime) => {
                        let _ = ready.send("io_uring".to_owned());
                        runtime.block_on(write_with_uring(file, blocks, done));
                    }
                    Err(why) => {
                        let _ = ready.send(format!("write: {why}"));
                        write_plainly(&file, blocks, &done);
                    }
                }
            })?;
        let io_path = started.recv().map_err(|_| gone())?;
        Ok(Self {
            full: Some(full),
            empty,
            thread: Some(thread),
            under_way: 0,
            io_path,
            target,
            unfinished: Some(unfinished),
        })
    }

    fn send(&mut self, full: Vec<u8>) -> io::Result<()> {
        self.full.as_ref().ok_or_else(gone)?.send(full).map_err(|_| gone())?;
        self.under_way += 1;
        Ok(())
    }

    fn write_block(&mut self, full: Vec<u8>) -> io::Result<Vec<u8>> {
        let capacity = full.capacity();
        self.send(full)?;
        let done = match self.empty.try_recv() {
            Ok(done) => done,
            // Beyond that the disk sets the pace.
            Err(_) if self.under_way < WRITE_BEHIND => return Ok(Vec::with_capacity(capacity)),
            Err(_) => self.empty.recv().map_err(|_| gone())?,
        };
        self.under_way -= 1;
        done
    }

    fn finish(mut self, last: Vec<u8>) -> io::Result<()> {
        if !last.is_empty() {
            self.send(last)?;
        }
        self.full = None;
        while self.under_way > 0 {
            self.empty.recv().map_err(|_| gone())??;
            self.under_way -= 1;
        }
        self.join();
        match self.unfinished.take() {
            Some(unfinished) => unfinished.keep_as(&self.target),
            None => Ok(()),
        }
    }

    fn join(&mut self) {
        self.full = None;
        if let Some(thread) = self.thread.take() {
            // It holds nothing that a panic could have spoilt for us.
            let _ = thread.join();
        }
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        // The thread first: it must not write to a file that is gone.
        self.join();
    }
}

fn write_plainly(
    file: &File,
    mut blocks: UnboundedReceiver<Vec<u8>>,
    done: &mpsc::Sender<io::Result<Vec<u8>>>,
) {
    let mut at = 0;
    while let Some(mut block) = blocks.blocking_recv() {
        let len = block.len() as u64;
        let written = file.write_all_at(&block, at).map(|()| {
            block.clear();
            block
        });
        at += len;
        if done.send(written).is_err() {
            return;
        }
    }
}

async fn write_with_uring(
    file: File,
    mut blocks: UnboundedReceiver<Vec<u8>>,
    done: mpsc::Sender<io::Result<Vec<u8>>>,
) {
    let file = tokio_uring::fs::File::from_std(file);
    let mut at = 0;
    // One at a time: the kernel writes to a file in turn anyway, several at once would only stand in line.
    while let Some(block) = blocks.recv().await {
        let offset = at;
        at += block.len() as u64;
        if done.send(uring::write(&file, block, offset).await).is_err() {
            return;
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the writing thread is gone")
}
