/* What vidtok.h promises about threads, for the thread sanitizer: `threads BUNDLE CLIP.rgb WIDTH HEIGHT`.
 *
 * Threads open tokenizers at once, share one, free it while their streams go on, and fail each with a text of its own. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vidtok.h>

#define THREADS 4
#define MOST 100000 /* numbers of the clip's tokens */

static const char* bundle;
static uint8_t* clip;
static size_t width, height, num_frames;
static vidtok_tokenizer* shared;

typedef struct {
    int number;
    size_t count;
    char result[4 * MOST]; /* bytes of tokens */
} Work;

static void check(vidtok_status status) {
    if (status == VIDTOK_OK) return;
    fprintf(stderr, "threads: error %d: %s\n", (int)status, vidtok_error());
    exit(1);
}

static void keep(Work* work, const vidtok_tokens* t) {
    const size_t bytes = 4 * t->count * t->channels * t->height * t->width;
    if (bytes == 0) return;
    if (work->count + bytes > sizeof work->result) exit(1);
    memcpy(work->result + work->count, t->indices ? (const void*)t->indices : (const void*)t->latent, bytes);
    work->count += bytes;
}

static void* run(void* argument) {
    Work* work = argument;
    vidtok_options options = {0};
    vidtok_tokenizer* own;
    vidtok_encoder* encoder;
    vidtok_reader* none;
    vidtok_tokens tokens;
    char name[40];
    size_t i;
    options.threads = 1;
    check(vidtok_tokenizer_open(bundle, &options, &own));
    check(vidtok_encoder_open(work->number % 2 ? shared : own, 0, &encoder));
    vidtok_tokenizer_free(own);
    for (i = 0; i < num_frames; ++i) {
        check(vidtok_encoder_push(encoder, clip + i * 3 * width * height, 1, height, width, &tokens));
        keep(work, &tokens);
        sprintf(name, "absent-%d", work->number);
        if (vidtok_reader_open(name, &none) != VIDTOK_TOKEN_FILE_ERROR || !strstr(vidtok_error(), name)) exit(1);
    }
    check(vidtok_encoder_finish(encoder, &tokens));
    keep(work, &tokens);
    vidtok_encoder_free(encoder);
    return NULL;
}

int main(int argc, char** argv) {
    static Work works[THREADS];
    pthread_t threads[THREADS];
    vidtok_options options = {0};
    FILE* file;
    int i;
    if (argc < 5) return 2;
    bundle = argv[1];
    width = strtoul(argv[3], NULL, 10);
    height = strtoul(argv[4], NULL, 10);
    clip = malloc(64 * 3 * width * height);
    file = fopen(argv[2], "rb");
    if (!clip || !file) return 2;
    num_frames = fread(clip, 3 * width * height, 64, file);
    fclose(file);
    options.threads = 1;
    check(vidtok_tokenizer_open(bundle, &options, &shared));
    for (i = 0; i < THREADS; ++i) {
        works[i].number = i;
        if (pthread_create(&threads[i], NULL, run, &works[i])) return 1;
    }
    for (i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
    vidtok_tokenizer_free(shared);
    free(clip);
    for (i = 1; i < THREADS; ++i) {
        if (works[i].count != works[0].count || memcmp(works[i].result, works[0].result, works[0].count)) return 1;
    }
    printf("%zu bytes of tokens, the same in %d threads\n", works[0].count, THREADS);
    return works[0].count ? 0 : 1;
}
