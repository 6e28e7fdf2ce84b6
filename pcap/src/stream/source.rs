//! Reading files: at once what lies in the page cache, ahead of the parser what does not.

use super::{Block, BlockSource, HEADROOM, IoChoice, READ_AHEAD, ReadSource, uring};
use crate::format::limits;
use rustix::fs::fstatfs;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::collections::VecDeque;
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel};

/// Most blocks of a file in memory: those read ahead, and the one that is parsed.
const POOL: usize = READ_AHEAD + 1;

/// Blocks of a file, pipe or device.
#[derive(Debug)]
pub struct FileSource(Way);

#[derive(Debug)]
enum Way {
    /// In the caller's thread: what cannot be read ahead or twice.
    Plain(ReadSource<File>),
    /// In the caller's thread as far as nothing has to be waited for, by a thread of its own from there on.
    Near(Near),
    /// By a thread of its own.
    Ahead(ReadAhead),
}

impl FileSource {
    /// Opens `path`. What of a regular file is not in memory is read ahead of the parser by a thread, which ends with this
    /// value.
    pub fn open(path: &Path, choice: IoChoice) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Ok(Self(Way::Plain(ReadSource::new(file).named("read: not a regular file"))));
        }
        let file_len = metadata.len();
        Ok(Self(match choice {
            IoChoice::Auto | IoChoice::Here => {
                let (nowait, io_path) = if choice == IoChoice::Here {
                    (ReadWriteFlags::empty(), "read: in the caller's thread")
                } else if is_in_memory(&file) {
                    (ReadWriteFlags::empty(), "read: from the page cache")
                } else {
                    (ReadWriteFlags::NOWAIT, "read: from the page cache")
                };
                let (free, ahead) = (Vec::new(), None);
                Way::Near(Near { file, file_len, at: 0, ended: false, nowait, free, io_path, ahead })
            }
            IoChoice::Ahead | IoChoice::Plain => Way::Ahead(ReadAhead::start(file, file_len, 0, choice)?),
        }))
    }
}

impl BlockSource for FileSource {
    fn next_block(&mut self) -> io::Result<Block> {
        match &mut self.0 {
            Way::Plain(plain) => plain.next_block(),
            Way::Near(near) => near.next_block(),
            Way::Ahead(ahead) => ahead.next_block(),
        }
    }

    fn recycle(&mut self, spent: Block) {
        match &mut self.0 {
            Way::Plain(plain) => plain.recycle(spent),
            Way::Near(near) => near.recycle(spent),
            Way::Ahead(ahead) => ahead.recycle(spent),
        }
    }

    fn rewind(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Way::Plain(plain) => plain.rewind(),
            Way::Near(near) => near.rewind(),
            Way::Ahead(ahead) => ahead.rewind(),
        }
    }

    fn io_path(&self) -> &str {
        match &self.0 {
            Way::Plain(plain) => plain.io_path(),
            Way::Near(near) => near.io_path(),
            Way::Ahead(ahead) => &ahead.io_path,
        }
    }
}

/// A file that is read where it is parsed while the page cache has it: a block then costs no change of thread, and is
/// still in the core's second cache when it is parsed.
#[derive(Debug)]
struct Near {
    file: File,
    /// Length of the file when it was opened.
    file_len: u64,
    /// Offset of the next block.
    at: u64,
    /// The end was given: nothing more until a rewind.
    ended: bool,
    /// How not to wait for a disk.
    nowait: ReadWriteFlags,
    free: Vec<Block>,
    io_path: &'static str,
    /// Since the first block that was not in memory; until a rewind.
    ahead: Option<ReadAhead>,
}

/// Whether the file system has no disk to wait for: it does not know [`ReadWriteFlags::NOWAIT`], and needs none.
fn is_in_memory(file: &File) -> bool {
    // Source: linux/magic.h: TMPFS_MAGIC, RAMFS_MAGIC.
    fstatfs(file).is_ok_and(|fs| matches!(fs.f_type as u32, 0x0102_1994 | 0x8584_58f6))
}

impl Near {
    fn next_block(&mut self) -> io::Result<Block> {
        if self.ahead.is_none() {
            let block = self.free.pop().unwrap_or_else(|| Block::with_len(limits::PIPE_BLOCK_LEN));
            if let Some(block) = self.cached(block)? {
                self.at += (block.end - block.start) as u64;
                return Ok(block);
            }
            self.free.clear();
            self.ahead =
                Some(ReadAhead::start(self.file.try_clone()?, self.file_len, self.at, IoChoice::Ahead)?);
        }
        match &mut self.ahead {
            Some(ahead) => ahead.next_block(),
            None => Err(gone()),
        }
    }

    /// The next block, if all of it can be had without waiting.
    fn cached(&mut self, mut block: Block) -> io::Result<Option<Block>> {
        let mut len = 0;
        let room = block.octets.get_mut(HEADROOM..).unwrap_or(&mut []);
        while let Some(left) = room.get_mut(len..).filter(|left| !left.is_empty() && !self.ended) {
            let at = self.at + len as u64;
            match preadv2(&self.file, &mut [IoSliceMut::new(left)], at, self.nowait) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(Errno::INTR) => {}
                // Not in memory; or a file system that cannot tell.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            if self.at + len as u64 >= self.file_len {
                break;
            }
        }
        block.last = len < room.len();
        self.ended = block.last;
        (block.start, block.end) = (HEADROOM, HEADROOM + len);
        Ok(Some(block))
    }

    fn recycle(&mut self, spent: Block) {
        match &mut self.ahead {
            Some(ahead) => ahead.recycle(spent),
            None if spent.octets.len() == HEADROOM + limits::PIPE_BLOCK_LEN => self.free.push(spent),
            None => {}
        }
    }

    fn rewind(&mut self) -> io::Result<()> {
        // Its thread ends with it: by now the file may well be in memory.
        self.ahead = None;
        (self.at, self.ended) = (0, false);
        Ok(())
    }

    fn io_path(&self) -> &str {
        self.ahead.as_ref().map_or(self.io_path, |ahead| &ahead.io_path)
    }
}

/// To the thread. It ends when the other side is gone.
#[derive(Debug)]
enum Request {
    /// A block to be filled again.
    Spent(Block),
    /// Start again at the first octet; blocks from then on carry this number.
    Rewind(u64),
}

/// From the thread: the number of the last rewind it knew of, and a block.
type Reply = (u64, io::Result<Block>);

#[derive(Debug)]
struct ReadAhead {
    requests: UnboundedSender<Request>,
    replies: mpsc::Receiver<Reply>,
    rewinds: u64,
    io_path: String,
}

impl ReadAhead {
    fn start(file: File, file_len: u64, at: u64, choice: IoChoice) -> io::Result<Self> {
        let (requests, requested) = unbounded_channel();
        let (reply, replies) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let reading = Reading {
            requests: requested,
            replies: reply,
            file_len,
            rewinds: 0,
            at,
            ended: false,
            free: Vec::new(),
            made: 0,
        };
        thread::Builder::new().name("pc5-read".to_owned()).spawn(move || match uring::runtime(choice) {
            Ok(runtime) => {
                let _ = ready.send("io_uring".to_owned());
                runtime.block_on(reading.with_uring(file));
            }
            Err(why) => {
                let _ = ready.send(format!("read: {why}"));
                reading.plainly(&file);
            }
        })?;
        let io_path = started.recv().map_err(|_| gone())?;
        Ok(Self { requests, replies, rewinds: 0, io_path })
    }

    fn next_block(&mut self) -> io::Result<Block> {
        loop {
            let (rewinds, block) = self.replies.recv().map_err(|_| gone())?;
            if rewinds == self.rewinds {
                return block;
            }
            if let Ok(stale) = block {
                self.recycle(stale);
            }
        }
    }

    fn recycle(&mut self, spent: Block) {
        if spent.octets.len() == HEADROOM + limits::BLOCK_LEN {
            // A thread that is gone is noticed at the next block.
            let _ = self.requests.send(Request::Spent(spent));
        }
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.rewinds += 1;
        self.requests.send(Request::Rewind(self.rewinds)).map_err(|_| gone())
    }
}

/// What the thread knows.
struct Reading {
    requests: UnboundedReceiver<Request>,
    replies: mpsc::Sender<Reply>,
    /// Length of the file when it was opened.
    file_len: u64,
    rewinds: u64,
    /// Offset of the next block.
    at: u64,
    /// The end, or an error, was sent: nothing more until a rewind.
    ended: bool,
    free: Vec<Block>,
    /// Blocks in the world.
    made: usize,
}

/// The other side is gone.
struct Closed;

impl Reading {
    fn take(&mut self, request: Request) {
        match request {
            Request::Spent(block) => self.free.push(block),
            Request::Rewind(rewinds) => (self.rewinds, self.at, self.ended) = (rewinds, 0, false),
        }
    }

    /// A block to be filled and its offset in the file, if there is one to spare.
    fn next(&mut self) -> Option<(Block, u64)> {
        let block = match self.free.pop() {
            None if self.made == POOL => return None,
            None => {
                self.made += 1;
                Block::with_len(limits::BLOCK_LEN)
            }
            Some(free) => free,
        };
        let at = self.at;
        self.at += limits::BLOCK_LEN as u64;
        Some((block, at))
    }

    fn reply(&mut self, block: io::Result<Block>) -> Result<(), Closed> {
        self.ended = block.as_ref().map_or(true, |block| block.last);
        self.replies.send((self.rewinds, block)).map_err(|_| Closed)
    }

    fn plainly(mut self, file: &File) {
        loop {
            let request = match self.requests.try_recv() {
                Ok(request) => Some(request),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => match if self.ended { None } else { self.next() } {
                    Some((block, at)) => {
                        let filled = fill(file, block, at, self.file_len);
                        if self.reply(filled).is_err() {
                            return;
                        }
                        None
                    }
                    None => match self.requests.blocking_recv() {
                        Some(request) => Some(request),
                        None => return,
                    },
                },
            };
            if let Some(request) = request {
                self.take(request);
            }
        }
    }

    async fn with_uring(mut self, file: File) {
        let file = Rc::new(tokio_uring::fs::File::from_std(file));
        let mut reads = VecDeque::new();
        loop {
            // Beyond the length that the file had, one block at a time: most files do not grow.
            while !self.ended && reads.len() < READ_AHEAD && (reads.is_empty() || self.at < self.file_len) {
                let Some((block, at)) = self.next() else { break };
                let (file, file_len) = (Rc::clone(&file), self.file_len);
                let read = tokio_uring::spawn(async move { uring::fill(&file, block, at, file_len).await });
                reads.push_back((self.rewinds, read));
            }
            let event = poll_fn(|cx| {
                if let Poll::Ready(request) = self.requests.poll_recv(cx) {
                    return Poll::Ready(Event::Request(request));
                }
                match reads.front_mut() {
                    Some((_, read)) => Pin::new(read).poll(cx).map(Event::Read),
                    None => Poll::Pending,
                }
            });
            match event.await {
                Event::Request(Some(request)) => self.take(request),
                Event::Request(None) => break,
                Event::Read(read) => {
                    let Some((rewinds, _)) = reads.pop_front() else { continue };
                    let block = read.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
                    if rewinds == self.rewinds && !self.ended {
                        if self.reply(block).is_err() {
                            break;
                        }
                    } else {
                        match block {
                            Ok(stale) => self.free.push(stale),
                            Err(_) => self.made -= 1,
                        }
                    }
                }
            }
        }
        // The kernel may still be writing into these.
        for (_, read) in reads {
            let _ = read.await;
        }
    }
}

enum Event<T> {
    Request(Option<Request>),
    Read(T),
}

/// As [`uring::fill`], with plain calls.
fn fill(file: &File, mut block: Block, at: u64, file_len: u64) -> io::Result<Block> {
    let mut len = 0;
    let room = block.octets.get_mut(HEADROOM..).unwrap_or(&mut []);
    while let Some(left) = room.get_mut(len..).filter(|left| !left.is_empty()) {
        match file.read_at(left, at + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if at + len as u64 >= file_len {
            break;
        }
    }
    block.last = len < room.len();
    (block.start, block.end) = (HEADROOM, HEADROOM + len);
    Ok(block)
}

fn gone() -> io::Error {
    io::Error::other("the reading thread is gone")
}
