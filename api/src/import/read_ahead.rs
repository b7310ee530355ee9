//! Reads a source in a thread of its own, so that unpacking a file and making
//! sense of it take two cores.

use std::io::{self, Read};
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// What the thread reads of the source at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// Blocks that wait for their reader.
const BLOCKS_AHEAD: usize = 4;

/// The reading end. The thread ends when this is dropped.
pub(super) struct ReadAhead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    /// Blocks that were read go back: the next ones need no new memory.
    empty: Sender<Vec<u8>>,
    block: Vec<u8>,
    /// How much of the block was read.
    done: usize,
    at_end: bool,
}

impl ReadAhead {
    pub(super) fn new(source: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, blocks) = sync_channel(BLOCKS_AHEAD);
        let (empty, emptied) = channel();
        thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || read_blocks(source, &sender, &emptied))?;
        Ok(Self {
            blocks,
            empty,
            block: Vec::new(),
            done: 0,
            at_end: false,
        })
    }
}

/// Sends block by block, the last of them empty, or an error.
fn read_blocks(
    mut source: impl Read,
    sender: &SyncSender<io::Result<Vec<u8>>>,
    emptied: &Receiver<Vec<u8>>,
) {
    loop {
        let mut block = emptied.try_recv().unwrap_or_default();
        block.clear();
        block.reserve(BLOCK_BYTES);
        let outcome = source
            .by_ref()
            .take(BLOCK_BYTES as u64)
            .read_to_end(&mut block);
        // What was read before an error comes before it.
        if !block.is_empty() && sender.send(Ok(block)).is_err() {
            return;
        }
        match outcome {
            Ok(1..) => {}
            // An empty block is the end.
            end => return drop(sender.send(end.map(|_| Vec::new()))),
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done == self.block.len() && !self.at_end {
            // Nobody takes it any more once the source has ended.
            let _ = self.empty.send(mem::take(&mut self.block));
            self.done = 0;
            self.block = self.blocks.recv().unwrap_or_else(|_| {
                Err(io::Error::other("the thread that reads the file has died"))
            })?;
            self.at_end = self.block.is_empty();
        }
        let rest = &self.block[self.done..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.done += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_source_has() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        for length in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            bytes.len(),
        ] {
            let source = io::Cursor::new(bytes[..length].to_vec());
            let mut read = Vec::new();
            ReadAhead::new(source)
                .unwrap()
                .read_to_end(&mut read)
                .unwrap();
            assert!(read == bytes[..length], "{length}");
        }
    }

    #[test]
    fn an_error_arrives_behind_what_was_read_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad sector"))
            }
        }
        let whole = vec![7; BLOCK_BYTES + 10];
        let mut reader = ReadAhead::new(io::Cursor::new(whole).chain(Broken)).unwrap();
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        assert_eq!(error.to_string(), "bad sector");
        assert_eq!(read.len(), BLOCK_BYTES + 10);
    }

    #[test]
    fn a_source_that_panics_is_an_error() {
        struct Panicking;
        impl Read for Panicking {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("as asked");
            }
        }
        let mut reader = ReadAhead::new(Panicking).unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
    }
}
