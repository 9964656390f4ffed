package vidtok

/*
#include <vidtok.h>

// With the numbers as arguments of their own: Go's memory may not hold pointers to Go's memory when C gets it.
static vidtok_status push_tokens(vidtok_decoder* decoder, size_t count, size_t channels, size_t height, size_t width,
                                 const float* latent, const int32_t* indices, vidtok_frames* frames) {
    const vidtok_tokens tokens = {count, channels, height, width, latent, indices};
    return vidtok_decoder_push(decoder, &tokens, frames);
}
*/
import "C"

import (
	"io"
	"unsafe"
)

// Tokens are latents [Count, Channels, Height, Width], or tokens [Count, Height, Width] of a model with a codebook.
type Tokens struct {
	Count, Channels, Height, Width int
	Latent                         []float32
	Indices                        []int32
}

// Frames are RGB [Count, Height, Width, 3] in -1..1.
type Frames struct {
	Count, Height, Width int
	Pixels               []float32
}

// Bytes gives the same as 0..255.
func (f Frames) Bytes() []byte {
	bytes := make([]byte, len(f.Pixels))
	if len(bytes) > 0 {
		C.vidtok_to_uint8((*C.float)(&f.Pixels[0]), C.size_t(len(bytes)), (*C.uint8_t)(&bytes[0]))
	}
	return bytes
}

func tokensOf(out C.vidtok_tokens) Tokens {
	t := Tokens{Count: int(out.count), Channels: int(out.channels), Height: int(out.height), Width: int(out.width)}
	size := t.Count * t.Channels * t.Height * t.Width
	if out.latent != nil {
		t.Latent = append(t.Latent, unsafe.Slice((*float32)(out.latent), size)...)
	}
	if out.indices != nil {
		t.Indices = append(t.Indices, unsafe.Slice((*int32)(out.indices), size)...)
	}
	return t
}

func framesOf(out C.vidtok_frames) Frames {
	f := Frames{Count: int(out.count), Height: int(out.height), Width: int(out.width)}
	if out.pixels != nil {
		f.Pixels = append(f.Pixels, unsafe.Slice((*float32)(out.pixels), f.Count*f.Height*f.Width*3)...)
	}
	return f
}

// Pointers to the numbers, if they are as many as the sizes say.
func (t Tokens) pointers() (latent *C.float, indices *C.int32_t, err error) {
	size := t.Count * t.Channels * t.Height * t.Width
	if t.Count < 0 || t.Channels < 0 || t.Height < 0 || t.Width < 0 || len(t.Latent)+len(t.Indices) != size {
		return nil, nil, refuse("tokens do not have as many numbers as their sizes say")
	}
	if len(t.Latent) > 0 {
		latent = (*C.float)(&t.Latent[0])
	}
	if len(t.Indices) > 0 {
		indices = (*C.int32_t)(&t.Indices[0])
	}
	return latent, indices, nil
}

// An Encoder is a stream of frames to tokens.
type Encoder struct{ handle *C.vidtok_encoder }

// Encoder opens a stream, whose state starts anew every gop latents; 0: never.
func (t *Tokenizer) Encoder(gop int) (*Encoder, error) {
	if gop < 0 {
		return nil, refuse("a gop is not negative")
	}
	e := &Encoder{}
	err := check(func() C.vidtok_status { return C.vidtok_encoder_open(t.handle, C.size_t(gop), &e.handle) })
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Push takes whole frames [T, H, W, 3] of 0..255 and gives every latent that is complete, perhaps none.
func (e *Encoder) Push(rgb []byte, height, width int) (Tokens, error) {
	if height < 1 || width < 1 || height > 65536 || width > 65536 || len(rgb)%(3*height*width) != 0 {
		return Tokens{}, refuse("%d bytes are no whole frames of %dx%d", len(rgb), width, height)
	}
	var first *C.uint8_t
	if len(rgb) > 0 {
		first = (*C.uint8_t)(&rgb[0])
	}
	count := C.size_t(len(rgb) / (3 * height * width))
	var out C.vidtok_tokens
	err := check(func() C.vidtok_status {
		return C.vidtok_encoder_push(e.handle, first, count, C.size_t(height), C.size_t(width), &out)
	})
	if err != nil {
		return Tokens{}, err
	}
	return tokensOf(out), nil
}

// Finish ends the stream and gives what is left.
func (e *Encoder) Finish() (Tokens, error) {
	var out C.vidtok_tokens
	if err := check(func() C.vidtok_status { return C.vidtok_encoder_finish(e.handle, &out) }); err != nil {
		return Tokens{}, err
	}
	return tokensOf(out), nil
}

// Close frees the stream.
func (e *Encoder) Close() {
	C.vidtok_encoder_free(e.handle)
	e.handle = nil
}

// A Decoder is a stream of tokens to frames.
type Decoder struct{ handle *C.vidtok_decoder }

// Decoder opens a stream to so many frames of a size; 0: what decodes, padding too.
func (t *Tokenizer) Decoder(numFrames, height, width int) (*Decoder, error) {
	if numFrames < 0 || height < 0 || width < 0 {
		return nil, refuse("sizes are not negative")
	}
	d := &Decoder{}
	err := check(func() C.vidtok_status {
		return C.vidtok_decoder_open(t.handle, C.size_t(numFrames), C.size_t(height), C.size_t(width), &d.handle)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Push takes any number of tokens and gives every frame that is complete, perhaps none.
func (d *Decoder) Push(t Tokens) (Frames, error) {
	latent, indices, err := t.pointers()
	if err != nil {
		return Frames{}, err
	}
	var out C.vidtok_frames
	err = check(func() C.vidtok_status {
		return C.push_tokens(d.handle, C.size_t(t.Count), C.size_t(t.Channels), C.size_t(t.Height),
			C.size_t(t.Width), latent, indices, &out)
	})
	if err != nil {
		return Frames{}, err
	}
	return framesOf(out), nil
}

// Finish ends the stream and gives what waited.
func (d *Decoder) Finish() (Frames, error) {
	var out C.vidtok_frames
	if err := check(func() C.vidtok_status { return C.vidtok_decoder_finish(d.handle, &out) }); err != nil {
		return Frames{}, err
	}
	return framesOf(out), nil
}

// Close frees the stream.
func (d *Decoder) Close() {
	C.vidtok_decoder_free(d.handle)
	d.handle = nil
}

// EncodeStream gives the tokens of frames that are read from r.
type EncodeStream struct {
	Encoder       *Encoder
	r             io.Reader
	buffer        []byte
	height, width int
	tokens        Tokens
	err           error
	ended         bool
}

// Bytes of frames that are read at once: more would be a mistake, and make panics for it.
const maxBuffer = 1 << 40

// Encode reads raw frames [T, H, W, 3] of 0..255, so many at once, until r ends.
func (t *Tokenizer) Encode(r io.Reader, height, width, chunk int) (*EncodeStream, error) {
	frame := 3 * int64(height) * int64(width)
	if height < 1 || width < 1 || chunk < 1 || height > 65536 || width > 65536 || int64(chunk) > maxBuffer/frame {
		return nil, refuse("frames of %dx%d, %d at once", width, height, chunk)
	}
	encoder, err := t.Encoder(0)
	if err != nil {
		return nil, err
	}
	return &EncodeStream{Encoder: encoder, r: r, buffer: make([]byte, int64(chunk)*frame), height: height, width: width}, nil
}

// Next reads on; false at the end or after an error.
func (s *EncodeStream) Next() bool {
	if s.ended {
		return false
	}
	n, err := io.ReadFull(s.r, s.buffer)
	switch err {
	case nil, io.ErrUnexpectedEOF:
		s.tokens, s.err = s.Encoder.Push(s.buffer[:n], s.height, s.width)
	case io.EOF:
		s.tokens, s.err = s.Encoder.Finish()
		s.ended = true
	default:
		s.err = err
	}
	s.ended = s.ended || s.err != nil
	return s.err == nil
}

// Tokens are those that Next made.
func (s *EncodeStream) Tokens() Tokens { return s.tokens }

// Err is why the stream ended, nil if it was read to its end.
func (s *EncodeStream) Err() error { return s.err }

// DecodeStream gives the frames of a token file.
type DecodeStream struct {
	decoder *Decoder
	reader  *Reader
	at      int
	chunk   int
	frames  Frames
	err     error
	ended   bool
}

// Next reads on; false at the end or after an error.
func (s *DecodeStream) Next() bool {
	if s.ended {
		return false
	}
	tokens, err := s.reader.Read(s.at, s.chunk)
	if s.err = err; err == nil {
		s.at += tokens.Count
		if tokens.Count > 0 {
			s.frames, s.err = s.decoder.Push(tokens)
		} else {
			s.frames, s.err = s.decoder.Finish()
			s.ended = true
		}
	}
	s.ended = s.ended || s.err != nil
	return s.err == nil
}

// Frames are those that Next made.
func (s *DecodeStream) Frames() Frames { return s.frames }

// Err is why the stream ended, nil if it was read to its end.
func (s *DecodeStream) Err() error { return s.err }

// Close frees the stream.
func (s *DecodeStream) Close() { s.decoder.Close() }
