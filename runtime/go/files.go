package vidtok

/*
#include <stdlib.h>
#include <vidtok.h>

static vidtok_status append_tokens(vidtok_writer* writer, size_t count, size_t channels, size_t height, size_t width,
                                   const float* latent, const int32_t* indices) {
    const vidtok_tokens tokens = {count, channels, height, width, latent, indices};
    return vidtok_writer_append(writer, &tokens);
}

static vidtok_status finish_writer(vidtok_writer* writer, const vidtok_encoder* encoder, vidtok_fraction fps,
                                   vidtok_fraction time_base, const int64_t* pts, size_t num_pts) {
    const vidtok_times times = {fps, time_base, pts, num_pts};
    return vidtok_writer_finish(writer, encoder, &times);
}
*/
import "C"

import "unsafe"

// Fraction is a positive quotient, or not known if Denominator is 0.
type Fraction struct{ Numerator, Denominator int64 }

// Clip is what a token file says. CodebookSize is 0 of latents.
type Clip struct {
	Family, Name, WeightsSHA256, Precision, Provider string
	NumFrames, Height, Width                         int
	FPS, TimeBase                                    Fraction
	CodebookSize                                     int64
	Count, Channels, TokenHeight, TokenWidth         int
}

// A Reader reads a token file piece by piece.
type Reader struct{ handle *C.vidtok_reader }

// OpenFile opens a token file.
func OpenFile(path string) (*Reader, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	r := &Reader{}
	if err := check(func() C.vidtok_status { return C.vidtok_reader_open(name, &r.handle) }); err != nil {
		return nil, err
	}
	return r, nil
}

// Clip says what the file holds.
func (r *Reader) Clip() (Clip, error) {
	var c C.vidtok_clip
	if err := check(func() C.vidtok_status { return C.vidtok_reader_info(r.handle, &c) }); err != nil {
		return Clip{}, err
	}
	fraction := func(f C.vidtok_fraction) Fraction { return Fraction{int64(f.numerator), int64(f.denominator)} }
	return Clip{
		Family: C.GoString(c.family), Name: C.GoString(c.name), WeightsSHA256: C.GoString(c.weights_sha256),
		Precision: C.GoString(c.precision), Provider: C.GoString(c.provider),
		NumFrames: int(c.num_frames), Height: int(c.height), Width: int(c.width),
		FPS: fraction(c.fps), TimeBase: fraction(c.time_base), CodebookSize: int64(c.codebook_size),
		Count: int(c.count), Channels: int(c.channels), TokenHeight: int(c.token_height), TokenWidth: int(c.token_width),
	}, nil
}

// Verify fails unless the numbers are those that were written.
func (r *Reader) Verify() error {
	return check(func() C.vidtok_status { return C.vidtok_reader_verify(r.handle) })
}

// Read gives at most so many latents or tokens from start on; none behind the end.
func (r *Reader) Read(start, most int) (Tokens, error) {
	if start < 0 || most < 0 {
		return Tokens{}, refuse("tokens from %d on, %d of them", start, most)
	}
	var out C.vidtok_tokens
	err := check(func() C.vidtok_status { return C.vidtok_reader_read(r.handle, C.size_t(start), C.size_t(most), &out) })
	if err != nil {
		return Tokens{}, err
	}
	return tokensOf(out), nil
}

// PTS gives a timestamp of each frame, in units of the time base.
func (r *Reader) PTS() ([]int64, error) {
	clip, err := r.Clip()
	if err != nil {
		return nil, err
	}
	var pts *C.int64_t
	if err := check(func() C.vidtok_status { return C.vidtok_reader_pts(r.handle, &pts) }); err != nil {
		return nil, err
	}
	return append([]int64(nil), unsafe.Slice((*int64)(pts), clip.NumFrames)...), nil
}

// Close frees the reader.
func (r *Reader) Close() {
	C.vidtok_reader_free(r.handle)
	r.handle = nil
}

// Decode gives the frames of a token file, decoded from so many latents or tokens at once.
func (t *Tokenizer) Decode(r *Reader, chunk int) (*DecodeStream, error) {
	if chunk < 1 {
		return nil, refuse("a chunk has at least 1 latent")
	}
	d := &Decoder{}
	err := check(func() C.vidtok_status { return C.vidtok_decoder_open_file(t.handle, r.handle, &d.handle) })
	if err != nil {
		return nil, err
	}
	return &DecodeStream{decoder: d, reader: r, chunk: chunk}, nil
}

// A Writer makes a token file, which appears under its name when it is finished.
type Writer struct{ handle *C.vidtok_writer }

// Create begins a token file. half: latents as float16. force: replace a file.
func (t *Tokenizer) Create(path string, half, force bool) (*Writer, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	flag := map[bool]C.int32_t{true: 1}
	w := &Writer{}
	err := check(func() C.vidtok_status {
		return C.vidtok_writer_open(t.handle, name, flag[half], flag[force], &w.handle)
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Append adds tokens behind those before.
func (w *Writer) Append(t Tokens) error {
	latent, indices, err := t.pointers()
	if err != nil {
		return err
	}
	return check(func() C.vidtok_status {
		return C.append_tokens(w.handle, C.size_t(t.Count), C.size_t(t.Channels), C.size_t(t.Height),
			C.size_t(t.Width), latent, indices)
	})
}

// Times say when frames are shown: what is zero is not known, and timestamps count frames.
type Times struct {
	FPS, TimeBase Fraction
	PTS           []int64
}

// Finish writes what the encoder knows about the clip and gives the file its name.
func (w *Writer) Finish(e *Encoder, times Times) error {
	fraction := func(f Fraction) C.vidtok_fraction {
		return C.vidtok_fraction{numerator: C.int64_t(f.Numerator), denominator: C.int64_t(f.Denominator)}
	}
	var pts *C.int64_t
	if len(times.PTS) > 0 {
		pts = (*C.int64_t)(&times.PTS[0])
	}
	return check(func() C.vidtok_status {
		return C.finish_writer(w.handle, e.handle, fraction(times.FPS), fraction(times.TimeBase), pts,
			C.size_t(len(times.PTS)))
	})
}

// Close frees the writer; a file that is not finished goes.
func (w *Writer) Close() {
	C.vidtok_writer_free(w.handle)
	w.handle = nil
}
