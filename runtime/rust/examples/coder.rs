//! Clips to token files and back; called as runtime/cpp/c/examples/coder.c.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

use vidtok::{Options, Reader, Times, Tokenizer, Writer};

fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    let provider = std::env::var("VIDTOK_PROVIDER").unwrap_or_default();
    let max_memory = std::env::var("VIDTOK_MAX_MEMORY").map_or(Ok(0), |bytes| bytes.parse())?;
    let options = Options { provider: &provider, threads: 1, max_memory, ..Options::default() };
    match words {
        ["encode", bundle, clip, tokens, width, height, fps, chunk] => {
            let tok = Tokenizer::open(bundle, &options)?;
            let (width, height, chunk): (usize, usize, usize) = (width.parse()?, height.parse()?, chunk.parse()?);
            let bytes = std::fs::read(clip)?;
            let pieces: Vec<Vec<u8>> = bytes.chunks(chunk * width * height * 3).map(<[u8]>::to_vec).collect();
            let mut writer = Writer::create(&tok, tokens, false, false)?;
            let mut stream = tok.encode(pieces, height, width)?;
            for found in &mut stream {
                writer.append(&found?)?;
            }
            let times = Times { fps: Some((fps.parse()?, 1)), ..Times::default() };
            writer.finish(&stream.into_encoder(), &times)?;
        }
        ["decode", bundle, tokens, clip, chunk] => {
            let tok = Tokenizer::open(bundle, &options)?;
            let reader = Reader::open(tokens)?;
            reader.verify()?;
            let mut out = BufWriter::new(File::create(clip)?);
            for frames in tok.decode(reader, chunk.parse()?)? {
                for pixel in frames?.pixels {
                    out.write_all(&pixel.to_le_bytes())?;
                }
            }
            out.flush()?;
        }
        _ => return Err("encode BUNDLE CLIP TOKENS WIDTH HEIGHT FPS CHUNK, or decode BUNDLE TOKENS CLIP CHUNK".into()),
    }
    Ok(())
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        eprintln!("coder: {error}");
        std::process::exit(1);
    }
}
