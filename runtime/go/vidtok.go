// Package vidtok turns video into tokens and back, by the bundles of vidtok-onnx, through libvidtok.
//
// Streams are read like a bufio.Scanner: Next, then Tokens or Frames, then Err. Memory does not grow with the clip.
package vidtok

// #cgo pkg-config: vidtok
// #include <stdlib.h>
// #include <vidtok.h>
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"
)

// Kind says what sort of thing went wrong.
type Kind int

const (
	BundleError Kind = iota + 1
	TokenFileError
	MismatchError
	ProviderError
	InputError
	OutputError
	MemoryError
	InternalError
)

// Error is why a call failed: one line that says what to do.
type Error struct {
	Kind Kind
	Text string
}

func (e *Error) Error() string { return e.Text }

// Call a function of C on one thread of the system, which is the one that knows why it failed.
func check(call func() C.vidtok_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := call(); status != C.VIDTOK_OK {
		return &Error{Kind(status), C.GoString(C.vidtok_error())}
	}
	return nil
}

func refuse(format string, values ...any) error {
	return &Error{InputError, fmt.Sprintf(format, values...)}
}

// LoadOnnxRuntime loads ONNX Runtime from a file, once for the process, before the first tokenizer on "cpu".
func LoadOnnxRuntime(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	return check(func() C.vidtok_status { return C.vidtok_load_onnxruntime(name) })
}

// Options are settings of a tokenizer; the zero value of each is its default. vidtok.h says what they mean.
type Options struct {
	Provider, Precision             string
	Threads, Chunk, MaxTile, Window int
	MaxMemory                       uint64 // bytes that the process may take
	Normalize                       bool
}

// A Tokenizer is a bundle on an engine. Goroutines may share it; each stream is for one of them at a time.
type Tokenizer struct{ handle *C.vidtok_tokenizer }

// Open opens the bundle in a folder.
func Open(folder string, options Options) (*Tokenizer, error) {
	for _, n := range []int{options.Threads, options.Chunk, options.MaxTile, options.Window} {
		if n < 0 {
			return nil, refuse("options are not negative, got %d", n)
		}
	}
	name := C.CString(folder)
	defer C.free(unsafe.Pointer(name))
	given := (*C.vidtok_options)(C.calloc(1, C.sizeof_vidtok_options))
	defer C.free(unsafe.Pointer(given))
	if options.Provider != "" {
		given.provider = C.CString(options.Provider)
		defer C.free(unsafe.Pointer(given.provider))
	}
	if options.Precision != "" {
		given.precision = C.CString(options.Precision)
		defer C.free(unsafe.Pointer(given.precision))
	}
	given.threads, given.chunk = C.size_t(options.Threads), C.size_t(options.Chunk)
	given.max_tile, given.window = C.size_t(options.MaxTile), C.size_t(options.Window)
	given.max_memory = C.size_t(options.MaxMemory)
	if options.Normalize {
		given.normalize = 1
	}
	tok := &Tokenizer{}
	if err := check(func() C.vidtok_status { return C.vidtok_tokenizer_open(name, given, &tok.handle) }); err != nil {
		return nil, err
	}
	return tok, nil
}

// Close frees the tokenizer; its streams go on.
func (t *Tokenizer) Close() {
	C.vidtok_tokenizer_free(t.handle)
	t.handle = nil
}
