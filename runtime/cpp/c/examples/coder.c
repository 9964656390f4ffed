/* Clips to token files and back with the C API.
 *
 *   coder encode BUNDLE CLIP.rgb TOKENS.safetensors WIDTH HEIGHT FPS [CHUNK]
 *   coder decode BUNDLE TOKENS.safetensors CLIP.f32 [CHUNK]
 *
 * CLIP.rgb: bytes [T, H, W, 3]; CLIP.f32: float32 in -1..1; CHUNK: frames or latents a push. VIDTOK_PROVIDER may name
 * the engine, VIDTOK_MAX_MEMORY the bytes that the process may take. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vidtok.h>

#ifdef _WIN32
#include <windows.h>
#endif

static void check(vidtok_status status) {
    if (status == VIDTOK_OK) return;
    fprintf(stderr, "coder: error %d: %s\n", (int)status, vidtok_error());
    exit(1);
}

/* A file by its name in UTF-8, which Windows' own fopen does not take. */
static FILE* open_file(const char* path, const char* mode) {
#ifdef _WIN32
    wchar_t wide[32768], how[8];
    MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 32768);
    MultiByteToWideChar(CP_UTF8, 0, mode, -1, how, 8);
    FILE* file = _wfopen(wide, how);
#else
    FILE* file = fopen(path, mode);
#endif
    if (file == NULL) {
        fprintf(stderr, "coder: %s cannot be opened\n", path);
        exit(1);
    }
    return file;
}

static void encode(vidtok_tokenizer* tok, char** words, size_t chunk) {
    const size_t width = strtoul(words[2], NULL, 10), height = strtoul(words[3], NULL, 10);
    const size_t frame = 3 * width * height;
    FILE* clip = open_file(words[0], "rb");
    uint8_t* rgb = malloc(chunk * frame);
    vidtok_times times = {{strtol(words[4], NULL, 10), 1}, {0, 0}, NULL, 0};
    vidtok_encoder* encoder;
    vidtok_writer* writer;
    vidtok_tokens tokens;
    size_t count;
    if (rgb == NULL) exit(1);
    check(vidtok_encoder_open(tok, 0, &encoder));
    check(vidtok_writer_open(tok, words[1], 0, 0, &writer));
    while ((count = fread(rgb, frame, chunk, clip)) > 0) {
        check(vidtok_encoder_push(encoder, rgb, count, height, width, &tokens));
        check(vidtok_writer_append(writer, &tokens));
    }
    check(vidtok_encoder_finish(encoder, &tokens));
    check(vidtok_writer_append(writer, &tokens));
    check(vidtok_writer_finish(writer, encoder, &times));
    vidtok_writer_free(writer);
    vidtok_encoder_free(encoder);
    free(rgb);
    fclose(clip);
}

static void write_frames(const vidtok_frames* frames, FILE* out) {
    const size_t numbers = frames->count * frames->height * frames->width * 3;
    if (fwrite(frames->pixels, sizeof(float), numbers, out) != numbers) exit(1);
}

static void decode(vidtok_tokenizer* tok, char** words, size_t chunk) {
    vidtok_reader* reader;
    vidtok_decoder* decoder;
    vidtok_clip clip;
    vidtok_tokens tokens;
    vidtok_frames frames;
    FILE* out;
    size_t at;
    check(vidtok_reader_open(words[0], &reader));
    check(vidtok_reader_verify(reader));
    check(vidtok_reader_info(reader, &clip));
    check(vidtok_decoder_open_file(tok, reader, &decoder));
    out = open_file(words[1], "wb");
    for (at = 0; at < clip.count; at += chunk) {
        check(vidtok_reader_read(reader, at, chunk, &tokens));
        check(vidtok_decoder_push(decoder, &tokens, &frames));
        write_frames(&frames, out);
    }
    check(vidtok_decoder_finish(decoder, &frames));
    write_frames(&frames, out);
    vidtok_decoder_free(decoder);
    vidtok_reader_free(reader);
    fclose(out);
}

static int run(int argc, char** argv) {
    const int encodes = argc > 7 && strcmp(argv[1], "encode") == 0;
    const int decodes = argc > 4 && strcmp(argv[1], "decode") == 0;
    const char* limit = getenv("VIDTOK_MAX_MEMORY");
    vidtok_options options = {0};
    vidtok_tokenizer* tok;
    const int last = encodes ? 8 : 5;
    size_t chunk = argc > last ? strtoul(argv[last], NULL, 10) : 4;
    if ((!encodes && !decodes) || chunk == 0) {
        fprintf(stderr, "coder: encode BUNDLE CLIP TOKENS WIDTH HEIGHT FPS [CHUNK], or decode BUNDLE TOKENS CLIP [CHUNK]\n");
        return 2;
    }
    options.provider = getenv("VIDTOK_PROVIDER");
    options.max_memory = limit ? (size_t)strtoull(limit, NULL, 10) : 0;
    options.threads = 1;
    check(vidtok_tokenizer_open(argv[2], &options, &tok));
    if (encodes) encode(tok, argv + 3, chunk);
    if (decodes) decode(tok, argv + 3, chunk);
    vidtok_tokenizer_free(tok);
    return 0;
}

#ifdef _WIN32
int wmain(int argc, wchar_t** wide) {
    char** argv = malloc((size_t)(argc + 1) * sizeof *argv);
    int i;
    for (i = 0; i < argc; ++i) {
        const int size = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        argv[i] = malloc((size_t)size);
        WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, argv[i], size, NULL, NULL);
    }
    return run(argc, argv);
}
#else
int main(int argc, char** argv) { return run(argc, argv); }
#endif
