//! The C API, and the one place of the crate that is `unsafe`: each function here is safe to call.

use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::slice;

use crate::{Clip, Error, Frames, Numbers, Options, Times, Tokens};

#[repr(C)]
struct RawOptions {
    provider: *const c_char,
    precision: *const c_char,
    threads: usize,
    chunk: usize,
    max_tile: usize,
    max_memory: usize,
    window: usize,
    normalize: i32,
}

#[repr(C)]
struct RawTokens {
    count: usize,
    channels: usize,
    height: usize,
    width: usize,
    latent: *const f32,
    indices: *const i32,
}

#[repr(C)]
struct RawFrames {
    count: usize,
    height: usize,
    width: usize,
    pixels: *const f32,
}

#[repr(C)]
struct Fraction {
    numerator: i64,
    denominator: i64,
}

#[repr(C)]
struct RawClip {
    family: *const c_char,
    name: *const c_char,
    weights_sha256: *const c_char,
    precision: *const c_char,
    provider: *const c_char,
    num_frames: usize,
    height: usize,
    width: usize,
    fps: Fraction,
    time_base: Fraction,
    codebook_size: i64,
    count: usize,
    channels: usize,
    token_height: usize,
    token_width: usize,
}

#[repr(C)]
struct RawTimes {
    fps: Fraction,
    time_base: Fraction,
    pts: *const i64,
    num_pts: usize,
}

type Raw = *mut c_void;

extern "C" {
    fn vidtok_error() -> *const c_char;
    fn vidtok_load_onnxruntime(path: *const c_char) -> i32;
    fn vidtok_tokenizer_open(folder: *const c_char, options: *const RawOptions, out: *mut Raw) -> i32;
    fn vidtok_tokenizer_free(handle: Raw);
    fn vidtok_encoder_open(tokenizer: Raw, gop: usize, out: *mut Raw) -> i32;
    fn vidtok_encoder_push(encoder: Raw, rgb: *const u8, count: usize, h: usize, w: usize, out: *mut RawTokens) -> i32;
    fn vidtok_encoder_finish(encoder: Raw, out: *mut RawTokens) -> i32;
    fn vidtok_encoder_free(handle: Raw);
    fn vidtok_decoder_open_file(tokenizer: Raw, reader: Raw, out: *mut Raw) -> i32;
    fn vidtok_decoder_open(tokenizer: Raw, num_frames: usize, h: usize, w: usize, out: *mut Raw) -> i32;
    fn vidtok_decoder_push(decoder: Raw, tokens: *const RawTokens, out: *mut RawFrames) -> i32;
    fn vidtok_decoder_finish(decoder: Raw, out: *mut RawFrames) -> i32;
    fn vidtok_decoder_free(handle: Raw);
    fn vidtok_to_uint8(pixels: *const f32, count: usize, bytes: *mut u8);
    fn vidtok_reader_open(path: *const c_char, out: *mut Raw) -> i32;
    fn vidtok_reader_info(reader: Raw, out: *mut RawClip) -> i32;
    fn vidtok_reader_verify(reader: Raw) -> i32;
    fn vidtok_reader_read(reader: Raw, start: usize, most: usize, out: *mut RawTokens) -> i32;
    fn vidtok_reader_pts(reader: Raw, out: *mut *const i64) -> i32;
    fn vidtok_reader_free(handle: Raw);
    fn vidtok_writer_open(tokenizer: Raw, path: *const c_char, half: i32, force: i32, out: *mut Raw) -> i32;
    fn vidtok_writer_append(writer: Raw, tokens: *const RawTokens) -> i32;
    fn vidtok_writer_finish(writer: Raw, encoder: Raw, times: *const RawTimes) -> i32;
    fn vidtok_writer_free(handle: Raw);
}

/// A handle that is freed when it is dropped.
pub struct Handle {
    raw: Raw,
    free: unsafe extern "C" fn(Raw),
}

// Handles may move between threads; vidtok.h has the rules.
unsafe impl Send for Handle {}
// By `&Handle` only calls are made that any number of threads may make: of tokenizers, and reading what a handle says.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        unsafe { (self.free)(self.raw) }
    }
}

fn check(status: i32) -> Result<(), Error> {
    if status == 0 {
        return Ok(());
    }
    let text = unsafe { CStr::from_ptr(vidtok_error()) }.to_string_lossy().into_owned();
    Err(Error::new(status, text))
}

fn text(given: &str) -> Result<CString, Error> {
    CString::new(given).map_err(|_| Error::new(5, "text with a zero byte".to_string()))
}

fn name(path: &Path) -> Result<CString, Error> {
    match path.to_str() {
        Some(given) => text(given),
        None => Err(Error::new(5, format!("{} is not UTF-8", path.display()))),
    }
}

fn open(free: unsafe extern "C" fn(Raw), make: impl FnOnce(*mut Raw) -> i32) -> Result<Handle, Error> {
    let mut raw = null_mut();
    check(make(&mut raw))?;
    Ok(Handle { raw, free })
}

fn numbers<T: Copy>(from: *const T, count: usize) -> Vec<T> {
    unsafe { slice::from_raw_parts(from, count) }.to_vec()
}

fn tokens(call: impl FnOnce(*mut RawTokens) -> i32) -> Result<Tokens, Error> {
    let mut out = RawTokens { count: 0, channels: 0, height: 0, width: 0, latent: null(), indices: null() };
    check(call(&mut out))?;
    let size = out.count * out.channels * out.height * out.width;
    let data = match (out.indices.is_null(), out.latent.is_null()) {
        (false, _) => Numbers::Indices(numbers(out.indices, size)),
        (_, false) => Numbers::Latent(numbers(out.latent, size)),
        _ => Numbers::Indices(Vec::new()),
    };
    Ok(Tokens { count: out.count, channels: out.channels, height: out.height, width: out.width, data })
}

fn frames(call: impl FnOnce(*mut RawFrames) -> i32) -> Result<Frames, Error> {
    let mut out = RawFrames { count: 0, height: 0, width: 0, pixels: null() };
    check(call(&mut out))?;
    let size = if out.pixels.is_null() { 0 } else { out.count * out.height * out.width * 3 };
    let pixels = if size == 0 { Vec::new() } else { numbers(out.pixels, size) };
    Ok(Frames { count: out.count, height: out.height, width: out.width, pixels })
}

/// As C sees tokens, if their numbers are as many as their sizes say.
fn raw(given: &Tokens) -> Result<RawTokens, Error> {
    let (length, latent, indices) = match &given.data {
        Numbers::Latent(data) => (data.len(), data.as_ptr(), null()),
        Numbers::Indices(data) => (data.len(), null(), data.as_ptr()),
    };
    let size = [given.channels, given.height, given.width]
        .iter()
        .try_fold(given.count, |size, n| size.checked_mul(*n));
    if size != Some(length) {
        return Err(Error::new(5, "tokens do not have as many numbers as their sizes say".to_string()));
    }
    Ok(RawTokens {
        count: given.count,
        channels: given.channels,
        height: given.height,
        width: given.width,
        latent,
        indices,
    })
}

pub fn load_onnxruntime(path: &Path) -> Result<(), Error> {
    let path = name(path)?;
    check(unsafe { vidtok_load_onnxruntime(path.as_ptr()) })
}

pub fn open_tokenizer(folder: &Path, options: &Options) -> Result<Handle, Error> {
    let folder = name(folder)?;
    let (provider, precision) = (text(options.provider)?, text(options.precision)?);
    let given = RawOptions {
        provider: if options.provider.is_empty() { null() } else { provider.as_ptr() },
        precision: if options.precision.is_empty() { null() } else { precision.as_ptr() },
        threads: options.threads,
        chunk: options.chunk,
        max_tile: options.max_tile,
        max_memory: options.max_memory,
        window: options.window,
        normalize: i32::from(options.normalize),
    };
    open(vidtok_tokenizer_free, |out| unsafe { vidtok_tokenizer_open(folder.as_ptr(), &given, out) })
}

pub fn open_encoder(tokenizer: &Handle, gop: usize) -> Result<Handle, Error> {
    open(vidtok_encoder_free, |out| unsafe { vidtok_encoder_open(tokenizer.raw, gop, out) })
}

pub fn push_frames(encoder: &mut Handle, rgb: &[u8], height: usize, width: usize) -> Result<Tokens, Error> {
    let frame = height.checked_mul(width).and_then(|n| n.checked_mul(3)).unwrap_or(0);
    if frame == 0 || rgb.len() % frame != 0 {
        return Err(Error::new(5, format!("{} bytes are no whole frames of {width}x{height}", rgb.len())));
    }
    let count = rgb.len() / frame;
    tokens(|out| unsafe { vidtok_encoder_push(encoder.raw, rgb.as_ptr(), count, height, width, out) })
}

pub fn finish_encoder(encoder: &mut Handle) -> Result<Tokens, Error> {
    tokens(|out| unsafe { vidtok_encoder_finish(encoder.raw, out) })
}

pub fn open_decoder(tokenizer: &Handle, num_frames: usize, height: usize, width: usize) -> Result<Handle, Error> {
    open(vidtok_decoder_free, |out| unsafe { vidtok_decoder_open(tokenizer.raw, num_frames, height, width, out) })
}

pub fn open_decoder_of(tokenizer: &Handle, reader: &Handle) -> Result<Handle, Error> {
    open(vidtok_decoder_free, |out| unsafe { vidtok_decoder_open_file(tokenizer.raw, reader.raw, out) })
}

pub fn push_tokens(decoder: &mut Handle, given: &Tokens) -> Result<Frames, Error> {
    let given = raw(given)?;
    frames(|out| unsafe { vidtok_decoder_push(decoder.raw, &given, out) })
}

pub fn finish_decoder(decoder: &mut Handle) -> Result<Frames, Error> {
    frames(|out| unsafe { vidtok_decoder_finish(decoder.raw, out) })
}

pub fn to_bytes(pixels: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; pixels.len()];
    unsafe { vidtok_to_uint8(pixels.as_ptr(), pixels.len(), bytes.as_mut_ptr()) };
    bytes
}

pub fn open_reader(path: &Path) -> Result<Handle, Error> {
    let path = name(path)?;
    open(vidtok_reader_free, |out| unsafe { vidtok_reader_open(path.as_ptr(), out) })
}

pub fn describe(reader: &Handle) -> Result<Clip, Error> {
    let mut out = std::mem::MaybeUninit::<RawClip>::zeroed();
    check(unsafe { vidtok_reader_info(reader.raw, out.as_mut_ptr()) })?;
    let out = unsafe { out.assume_init() };
    let copy = |text| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    let fraction = |f: Fraction| if f.denominator == 0 { None } else { Some((f.numerator, f.denominator)) };
    Ok(Clip {
        family: copy(out.family),
        name: copy(out.name),
        weights_sha256: copy(out.weights_sha256),
        precision: copy(out.precision),
        provider: copy(out.provider),
        num_frames: out.num_frames,
        height: out.height,
        width: out.width,
        fps: fraction(out.fps),
        time_base: fraction(out.time_base),
        codebook_size: if out.codebook_size == 0 { None } else { Some(out.codebook_size) },
        count: out.count,
        channels: out.channels,
        token_height: out.token_height,
        token_width: out.token_width,
    })
}

pub fn verify(reader: &Handle) -> Result<(), Error> {
    check(unsafe { vidtok_reader_verify(reader.raw) })
}

pub fn read(reader: &mut Handle, start: usize, most: usize) -> Result<Tokens, Error> {
    tokens(|out| unsafe { vidtok_reader_read(reader.raw, start, most, out) })
}

pub fn pts(reader: &mut Handle, count: usize) -> Result<Vec<i64>, Error> {
    let mut out = null();
    check(unsafe { vidtok_reader_pts(reader.raw, &mut out) })?;
    Ok(numbers(out, count))
}

pub fn open_writer(tokenizer: &Handle, path: &Path, half: bool, force: bool) -> Result<Handle, Error> {
    let path = name(path)?;
    open(vidtok_writer_free, |out| unsafe {
        vidtok_writer_open(tokenizer.raw, path.as_ptr(), i32::from(half), i32::from(force), out)
    })
}

pub fn append(writer: &mut Handle, given: &Tokens) -> Result<(), Error> {
    let given = raw(given)?;
    check(unsafe { vidtok_writer_append(writer.raw, &given) })
}

pub fn finish_writer(writer: &mut Handle, encoder: &Handle, times: &Times) -> Result<(), Error> {
    let fraction = |given: Option<(i64, i64)>| {
        let (numerator, denominator) = given.unwrap_or((0, 0));
        Fraction { numerator, denominator }
    };
    let given = RawTimes {
        fps: fraction(times.fps),
        time_base: fraction(times.time_base),
        pts: if times.pts.is_empty() { null() } else { times.pts.as_ptr() },
        num_pts: times.pts.len(),
    };
    check(unsafe { vidtok_writer_finish(writer.raw, encoder.raw, &given) })
}
