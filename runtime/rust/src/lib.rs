//! Video to tokens and back, by the bundles of vidtok-onnx, through libvidtok.
//!
//! Streams are iterators: [`Tokenizer::encode`] turns frames into tokens, [`Tokenizer::decode`] a token file into
//! frames, piece by piece, in memory that does not grow.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod sys;

mod files;
mod streams;

use std::fmt;
use std::path::Path;

pub use files::{Clip, Reader, Times, Writer};
pub use streams::{Decoded, Decoder, Encoded, Encoder};

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bundle,
    TokenFile,
    Mismatch,
    Provider,
    Input,
    Output,
    Memory,
    Internal,
}

/// Why a call failed: one line that says what to do.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    text: String,
}

impl Error {
    fn new(status: i32, text: String) -> Error {
        let kinds = [
            Kind::Bundle,
            Kind::TokenFile,
            Kind::Mismatch,
            Kind::Provider,
            Kind::Input,
            Kind::Output,
            Kind::Memory,
        ];
        let kind = usize::try_from(status - 1).ok().and_then(|i| kinds.get(i));
        Error { kind: kind.copied().unwrap_or(Kind::Internal), text }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;

/// Settings of a tokenizer; the default of each is empty or 0. `vidtok.h` says what they mean.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    pub provider: &'a str,
    pub precision: &'a str,
    pub threads: usize,
    pub chunk: usize,
    pub max_tile: usize,
    /// Bytes that the process may take.
    pub max_memory: usize,
    pub window: usize,
    pub normalize: bool,
}

/// The numbers of tokens, in C order.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// `[count, channels, height, width]`
    Latent(Vec<f32>),
    /// `[count, height, width]`
    Indices(Vec<i32>),
}

/// Latents, or tokens of a model with a codebook.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    pub count: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub data: Numbers,
}

/// RGB frames `[count, height, width, 3]` in -1..1.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    pub count: usize,
    pub height: usize,
    pub width: usize,
    pub pixels: Vec<f32>,
}

impl Frames {
    /// The same as 0..255.
    pub fn to_bytes(&self) -> Vec<u8> {
        sys::to_bytes(&self.pixels)
    }
}

/// Load ONNX Runtime from a file, once for the process, before the first tokenizer on "cpu".
pub fn load_onnxruntime(path: impl AsRef<Path>) -> Result<()> {
    sys::load_onnxruntime(path.as_ref())
}

/// A bundle on an engine. Threads may share it; each stream is for one of them at a time.
pub struct Tokenizer(sys::Handle);

impl Tokenizer {
    pub fn open(folder: impl AsRef<Path>, options: &Options) -> Result<Tokenizer> {
        sys::open_tokenizer(folder.as_ref(), options).map(Tokenizer)
    }
}
