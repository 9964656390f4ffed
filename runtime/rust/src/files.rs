//! Token files.

use std::path::Path;

use crate::{sys, Encoder, Result, Tokenizer, Tokens};

/// What a token file says about its clip. Rates are numerator and denominator.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    pub family: String,
    pub name: String,
    pub weights_sha256: String,
    pub precision: String,
    pub provider: String,
    pub num_frames: usize,
    pub height: usize,
    pub width: usize,
    pub fps: Option<(i64, i64)>,
    pub time_base: Option<(i64, i64)>,
    pub codebook_size: Option<i64>,
    pub count: usize,
    pub channels: usize,
    pub token_height: usize,
    pub token_width: usize,
}

/// A token file that is read piece by piece.
pub struct Reader(pub(crate) sys::Handle);

impl Reader {
    pub fn open(path: impl AsRef<Path>) -> Result<Reader> {
        sys::open_reader(path.as_ref()).map(Reader)
    }

    pub fn clip(&self) -> Result<Clip> {
        sys::describe(&self.0)
    }

    /// Whether the numbers are those that were written.
    pub fn verify(&self) -> Result<()> {
        sys::verify(&self.0)
    }

    /// At most so many latents or tokens from `start` on; none behind the end.
    pub fn read(&mut self, start: usize, most: usize) -> Result<Tokens> {
        sys::read(&mut self.0, start, most)
    }

    /// A timestamp of each frame, in units of the time base.
    pub fn pts(&mut self) -> Result<Vec<i64>> {
        let count = self.clip()?.num_frames;
        sys::pts(&mut self.0, count)
    }
}

/// When frames are shown: what is `None` or empty is not known, and timestamps count frames.
#[derive(Debug, Clone, Default)]
pub struct Times {
    pub fps: Option<(i64, i64)>,
    pub time_base: Option<(i64, i64)>,
    pub pts: Vec<i64>,
}

/// A token file that appears under its name when it is finished.
pub struct Writer(sys::Handle);

impl Writer {
    /// half: latents as float16. force: replace a file.
    pub fn create(tokenizer: &Tokenizer, path: impl AsRef<Path>, half: bool, force: bool) -> Result<Writer> {
        sys::open_writer(&tokenizer.0, path.as_ref(), half, force).map(Writer)
    }

    pub fn append(&mut self, tokens: &Tokens) -> Result<()> {
        sys::append(&mut self.0, tokens)
    }

    /// Write what the encoder knows about the clip, and give the file its name.
    pub fn finish(mut self, encoder: &Encoder, times: &Times) -> Result<()> {
        sys::finish_writer(&mut self.0, &encoder.0, times)
    }
}
