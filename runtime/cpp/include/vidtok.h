/* The C API of vidtok-onnx: video to tokens and back, for every language that can call C.
 *
 * Functions that can fail return a status; vidtok_error() then has the reason, one line in UTF-8, for the thread that
 * called. Results are written through the last argument, which stays as it was when a call fails. All text is UTF-8
 * that ends with a zero, paths too, on every system. No call ever ends the process.
 *
 * Memory: what a call writes into vidtok_tokens, vidtok_frames, vidtok_bundle or vidtok_clip belongs to the handle that
 * was asked: arrays until the next call with that handle, texts until it is freed. Handles are freed in any order, since
 * a stream keeps its tokenizer alive. Freeing NULL does nothing.
 *
 * Threads: a tokenizer may be used by any threads at once. An encoder, decoder, reader or writer is used by one thread
 * at a time, whichever; different ones run at once, those of one tokenizer too.
 *
 * A call that refuses its arguments changes nothing. A stream (encoder, decoder, writer) whose work has failed can only
 * be freed; further calls say so.
 *
 * The environment: the first graph that ONNX Runtime loads sets ORT_DISABLE_TELEMETRY, once and unless it is set. Where
 * other threads of the program use the environment at that time, set it before they start.
 */
#ifndef VIDTOK_H
#define VIDTOK_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(VIDTOK_BUILD)
#define VIDTOK_API __declspec(dllexport)
#elif defined(_WIN32)
#define VIDTOK_API __declspec(dllimport)
#elif defined(__GNUC__)
#define VIDTOK_API __attribute__((visibility("default")))
#else
#define VIDTOK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t vidtok_status;
enum {
    VIDTOK_OK = 0,
    VIDTOK_BUNDLE_ERROR = 1,     /* a bundle that is missing, incomplete, altered, or not as its manifest says */
    VIDTOK_TOKEN_FILE_ERROR = 2, /* a token file that is truncated, altered or none */
    VIDTOK_MISMATCH_ERROR = 3,   /* tokens of another model or other weights */
    VIDTOK_PROVIDER_ERROR = 4,   /* an engine that is not here or fails */
    VIDTOK_INPUT_ERROR = 5,      /* an argument that does not fit */
    VIDTOK_OUTPUT_ERROR = 6,     /* a target that exists or cannot be written */
    VIDTOK_MEMORY_ERROR = 7,     /* not enough memory; see max_memory */
    VIDTOK_INTERNAL_ERROR = 8    /* anything else */
};

typedef struct vidtok_tokenizer vidtok_tokenizer;
typedef struct vidtok_encoder vidtok_encoder;
typedef struct vidtok_decoder vidtok_decoder;
typedef struct vidtok_reader vidtok_reader;
typedef struct vidtok_writer vidtok_writer;

/* Version of the library, as "0.1.0". */
VIDTOK_API const char* vidtok_version(void);

/* Why the latest call of this thread that failed did so, until its next failure; "" before the first. */
VIDTOK_API const char* vidtok_error(void);

/* Load ONNX Runtime (1.20 or newer) from a file, once for the process, before a tokenizer with the provider "cpu" is
 * opened. Without this call the library is what the variable VIDTOK_ONNXRUNTIME of the environment names, else the one
 * beside libvidtok, else what the system finds by its usual name. */
VIDTOK_API vidtok_status vidtok_load_onnxruntime(const char* path);

/* ---- A bundle on an engine ---- */

/* All zero is the default of each. */
typedef struct vidtok_options {
    const char* provider;  /* "cpu" (ONNX Runtime) or "openvino"; NULL: "cpu" */
    const char* precision; /* as the manifest lists it; NULL: its first */
    size_t threads;        /* of the engine; 0: one per core that the process may use */
    size_t chunk;          /* frames a call at most; 0: as the manifest says. Changes no more than last digits */
    size_t max_tile;       /* pixels along an axis computed at once at most, which saves memory; 0: whole frames */
    size_t max_memory;     /* bytes that the process may take, as far as can be predicted: calls become shorter, then
                            * frames are cut into tiles. VIDTOK_INPUT_ERROR of a push says what would fit; 0: no limit */
    size_t window;         /* frames a group, for bundles that leave it open; 0: as the manifest says */
    int32_t normalize;     /* not 0: encoders apply the bundle's latent mean and scale */
} vidtok_options;

typedef struct vidtok_bundle {
    const char* family;
    const char* name;
    const char* weights_sha256;
    const char* licence;
    const char* precision;
    const char* provider;
    int64_t codebook_size;  /* 0: latents */
    size_t latent_channels; /* 1 of tokens of a codebook */
    size_t time_factor;     /* frames a latent */
    size_t spatial_multiple;
    size_t encoder_chunk; /* frames to push at once for a stream that waits for nothing */
    size_t decoder_chunk; /* and latents */
} vidtok_bundle;

/* options: NULL: all defaults. Graphs load when the first stream is opened. */
VIDTOK_API vidtok_status vidtok_tokenizer_open(const char* folder, const vidtok_options* options,
                                               vidtok_tokenizer** tokenizer);
VIDTOK_API vidtok_status vidtok_tokenizer_info(const vidtok_tokenizer* tokenizer, vidtok_bundle* bundle);
VIDTOK_API void vidtok_tokenizer_free(vidtok_tokenizer* tokenizer);

/* ---- Streams ---- */

/* Latents [count, channels, height, width], or tokens [count, height, width] of a model with a codebook, in C order.
 * One of the two pointers is NULL; both may be when count is 0. */
typedef struct vidtok_tokens {
    size_t count;
    size_t channels;
    size_t height;
    size_t width;
    const float* latent;
    const int32_t* indices;
} vidtok_tokens;

/* RGB frames [count, height, width, 3] in -1..1, in C order. */
typedef struct vidtok_frames {
    size_t count;
    size_t height;
    size_t width;
    const float* pixels;
} vidtok_frames;

/* A stream of frames to tokens. gop: its state starts anew every so many latents; 0: never. */
VIDTOK_API vidtok_status vidtok_encoder_open(vidtok_tokenizer* tokenizer, size_t gop, vidtok_encoder** encoder);

/* Take count frames [count, height, width, 3] of 0..255; gives every latent that is complete, perhaps none. */
VIDTOK_API vidtok_status vidtok_encoder_push(vidtok_encoder* encoder, const uint8_t* rgb, size_t count, size_t height,
                                             size_t width, vidtok_tokens* tokens);

/* End the stream; gives what is left. */
VIDTOK_API vidtok_status vidtok_encoder_finish(vidtok_encoder* encoder, vidtok_tokens* tokens);
VIDTOK_API void vidtok_encoder_free(vidtok_encoder* encoder);

/* A stream of tokens to at most num_frames frames, cropped to height x width; 0: what decodes, padding too. */
VIDTOK_API vidtok_status vidtok_decoder_open(vidtok_tokenizer* tokenizer, size_t num_frames, size_t height,
                                             size_t width, vidtok_decoder** decoder);

/* A stream of the tokens of a file to its frames. The reader is not needed afterwards. */
VIDTOK_API vidtok_status vidtok_decoder_open_file(vidtok_tokenizer* tokenizer, const vidtok_reader* reader,
                                                  vidtok_decoder** decoder);

/* Take any number of latents or tokens; gives every frame that is complete, perhaps none. */
VIDTOK_API vidtok_status vidtok_decoder_push(vidtok_decoder* decoder, const vidtok_tokens* tokens,
                                             vidtok_frames* frames);

/* End the stream; gives what waited. VIDTOK_INPUT_ERROR where fewer frames came than were asked for. */
VIDTOK_API vidtok_status vidtok_decoder_finish(vidtok_decoder* decoder, vidtok_frames* frames);
VIDTOK_API void vidtok_decoder_free(vidtok_decoder* decoder);

/* Pixels of -1..1 as 0..255, rounded to the nearest, halves to even. */
VIDTOK_API void vidtok_to_uint8(const float* pixels, size_t count, uint8_t* bytes);

/* ---- Token files ---- */

typedef struct vidtok_fraction {
    int64_t numerator;
    int64_t denominator; /* 0: not known */
} vidtok_fraction;

typedef struct vidtok_clip {
    const char* family;
    const char* name;
    const char* weights_sha256;
    const char* precision;
    const char* provider;
    size_t num_frames;
    size_t height; /* pixels */
    size_t width;
    vidtok_fraction fps;       /* frames a second */
    vidtok_fraction time_base; /* seconds a unit of the timestamps */
    int64_t codebook_size;     /* 0: latents */
    size_t count;              /* of latents or tokens along time; */
    size_t channels;           /* their sizes as in vidtok_tokens */
    size_t token_height;
    size_t token_width;
} vidtok_clip;

VIDTOK_API vidtok_status vidtok_reader_open(const char* path, vidtok_reader** reader);
VIDTOK_API vidtok_status vidtok_reader_info(const vidtok_reader* reader, vidtok_clip* clip);

/* VIDTOK_TOKEN_FILE_ERROR unless the numbers are those that were written. Reads the whole file. */
VIDTOK_API vidtok_status vidtok_reader_verify(const vidtok_reader* reader);

/* At most `most` latents or tokens from `start` on; none behind the end. */
VIDTOK_API vidtok_status vidtok_reader_read(vidtok_reader* reader, size_t start, size_t most, vidtok_tokens* tokens);

/* num_frames timestamps in units of the time base, rising. */
VIDTOK_API vidtok_status vidtok_reader_pts(vidtok_reader* reader, const int64_t** pts);
VIDTOK_API void vidtok_reader_free(vidtok_reader* reader);

/* A token file that appears under its name when finished, and not at all if it is freed before.
 * half: not 0: latents as float16. force: not 0: replace a regular file. */
VIDTOK_API vidtok_status vidtok_writer_open(vidtok_tokenizer* tokenizer, const char* path, int32_t half, int32_t force,
                                            vidtok_writer** writer);
VIDTOK_API vidtok_status vidtok_writer_append(vidtok_writer* writer, const vidtok_tokens* tokens);

/* When frames are shown; all zero, or NULL: not known, and timestamps that count frames. */
typedef struct vidtok_times {
    vidtok_fraction fps;
    vidtok_fraction time_base; /* of pts; not known: one frame of fps */
    const int64_t* pts;        /* a timestamp of each frame that was pushed, rising; NULL: 0, 1, 2 ... */
    size_t num_pts;
} vidtok_times;

/* Write what the encoder knows about the clip, after its finish, and give the file its name. The writer takes nothing
 * more. */
VIDTOK_API vidtok_status vidtok_writer_finish(vidtok_writer* writer, const vidtok_encoder* encoder,
                                              const vidtok_times* times);
VIDTOK_API void vidtok_writer_free(vidtok_writer* writer);

#ifdef __cplusplus
}
#endif

#endif
