//! Encoders and decoders, and the iterators over what they give.

use crate::{files::Reader, sys, Frames, Result, Tokenizer, Tokens};

/// A stream of frames to tokens.
pub struct Encoder(pub(crate) sys::Handle);

impl Encoder {
    /// Take whole frames `[T, H, W, 3]` of 0..255; gives every latent that is complete, perhaps none.
    pub fn push(&mut self, rgb: &[u8], height: usize, width: usize) -> Result<Tokens> {
        sys::push_frames(&mut self.0, rgb, height, width)
    }

    /// End the stream; gives what is left.
    pub fn finish(&mut self) -> Result<Tokens> {
        sys::finish_encoder(&mut self.0)
    }
}

/// A stream of tokens to frames.
pub struct Decoder(sys::Handle);

impl Decoder {
    /// Take any number of tokens; gives every frame that is complete, perhaps none.
    pub fn push(&mut self, tokens: &Tokens) -> Result<Frames> {
        sys::push_tokens(&mut self.0, tokens)
    }

    /// End the stream; gives what waited.
    pub fn finish(&mut self) -> Result<Frames> {
        sys::finish_decoder(&mut self.0)
    }
}

/// Tokens as frames come; ends after the first error.
pub struct Encoded<I> {
    encoder: Encoder,
    clip: Option<I>,
    height: usize,
    width: usize,
}

impl<I> Encoded<I> {
    /// The encoder, which a [`crate::Writer`] asks about the clip.
    pub fn into_encoder(self) -> Encoder {
        self.encoder
    }
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Encoded<I> {
    type Item = Result<Tokens>;

    fn next(&mut self) -> Option<Result<Tokens>> {
        let found = match self.clip.as_mut()?.next() {
            Some(rgb) => self.encoder.push(&rgb, self.height, self.width),
            None => {
                self.clip = None;
                self.encoder.finish()
            }
        };
        if found.is_err() {
            self.clip = None;
        }
        Some(found)
    }
}

/// Frames of a token file; ends after the first error.
pub struct Decoded {
    decoder: Decoder,
    reader: Option<Reader>,
    at: usize,
    chunk: usize,
}

impl Iterator for Decoded {
    type Item = Result<Frames>;

    fn next(&mut self) -> Option<Result<Frames>> {
        let tokens = self.reader.as_mut()?.read(self.at, self.chunk);
        let found = tokens.and_then(|tokens| {
            self.at += tokens.count;
            if tokens.count == 0 {
                self.reader = None;
                return self.decoder.finish();
            }
            self.decoder.push(&tokens)
        });
        if found.is_err() {
            self.reader = None;
        }
        Some(found)
    }
}

impl Tokenizer {
    /// A stream of frames to tokens, whose state starts anew every `gop` latents; 0: never.
    pub fn encoder(&self, gop: usize) -> Result<Encoder> {
        sys::open_encoder(&self.0, gop).map(Encoder)
    }

    /// A stream of tokens to so many frames of a size; 0: what decodes, padding too.
    pub fn decoder(&self, num_frames: usize, height: usize, width: usize) -> Result<Decoder> {
        sys::open_decoder(&self.0, num_frames, height, width).map(Decoder)
    }

    /// Tokens of a clip, whose items are one or more whole frames of 0..255.
    pub fn encode<I>(&self, clip: I, height: usize, width: usize) -> Result<Encoded<I::IntoIter>>
    where
        I: IntoIterator<Item = Vec<u8>>,
    {
        Ok(Encoded { encoder: self.encoder(0)?, clip: Some(clip.into_iter()), height, width })
    }

    /// Frames of a token file, decoded from so many latents or tokens at once.
    pub fn decode(&self, reader: Reader, chunk: usize) -> Result<Decoded> {
        let decoder = Decoder(sys::open_decoder_of(&self.0, &reader.0)?);
        Ok(Decoded { decoder, reader: Some(reader), at: 0, chunk: chunk.max(1) })
    }
}
