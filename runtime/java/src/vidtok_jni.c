/* Between Java and libvidtok: arrays are copied, a status that is not VIDTOK_OK becomes a VidtokException. */
#include <jni.h>
#include <stdlib.h>
#include <string.h>
#include <vidtok.h>

#define NATIVE(result, name) JNIEXPORT result JNICALL Java_vidtok_Native_##name
#define HANDLE(type, address) ((vidtok_##type*)(intptr_t)(address))

static jbyteArray bytes_of(JNIEnv* env, const char* text) {
    const jsize size = (jsize)strlen(text);
    jbyteArray bytes = (*env)->NewByteArray(env, size);
    if (bytes) (*env)->SetByteArrayRegion(env, bytes, 0, size, (const jbyte*)text);
    return bytes;
}

/* Whether it went well; otherwise an exception waits. */
static int check(JNIEnv* env, vidtok_status status) {
    jclass type;
    jmethodID make;
    jbyteArray text;
    jobject error;
    if (status == VIDTOK_OK) return 1;
    type = (*env)->FindClass(env, "vidtok/VidtokException");
    make = type ? (*env)->GetMethodID(env, type, "<init>", "(I[B)V") : NULL;
    text = make ? bytes_of(env, vidtok_error()) : NULL;
    error = text ? (*env)->NewObject(env, type, make, (jint)status, text) : NULL;
    if (error) (*env)->Throw(env, (jthrowable)error);
    return 0;
}

static void out_of_memory(JNIEnv* env) {
    jclass type = (*env)->FindClass(env, "java/lang/OutOfMemoryError");
    if (type) (*env)->ThrowNew(env, type, "a result of libvidtok is too large for Java");
}

/* A copy that ends with a zero, to be freed; NULL for null, or with an exception. */
static char* text_of(JNIEnv* env, jbyteArray bytes) {
    jsize size;
    char* text;
    if (!bytes) return NULL;
    size = (*env)->GetArrayLength(env, bytes);
    text = malloc((size_t)size + 1);
    if (!text) {
        out_of_memory(env);
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, bytes, 0, size, (jbyte*)text);
    text[size] = 0;
    return text;
}

static jfloatArray floats_of(JNIEnv* env, const float* numbers, size_t count) {
    jfloatArray array;
    if (count > 0x7FFFFFF0) {
        out_of_memory(env);
        return NULL;
    }
    array = (*env)->NewFloatArray(env, (jsize)count);
    if (array && count) (*env)->SetFloatArrayRegion(env, array, 0, (jsize)count, numbers);
    return array;
}

static jobject tokens_of(JNIEnv* env, const vidtok_tokens* t) {
    const size_t count = t->count * t->channels * t->height * t->width;
    jclass type = (*env)->FindClass(env, "vidtok/Tokens");
    jmethodID make = type ? (*env)->GetMethodID(env, type, "<init>", "(IIII[F[I)V") : NULL;
    jfloatArray latent = NULL;
    jintArray indices = NULL;
    if (!make) return NULL;
    if (t->latent) latent = floats_of(env, t->latent, count);
    if (t->indices && count > 0x7FFFFFF0) out_of_memory(env);
    else if (t->indices) indices = (*env)->NewIntArray(env, (jsize)count);
    if (indices) (*env)->SetIntArrayRegion(env, indices, 0, (jsize)count, (const jint*)t->indices);
    if ((*env)->ExceptionCheck(env)) return NULL;
    return (*env)->NewObject(env, type, make, (jint)t->count, (jint)t->channels, (jint)t->height, (jint)t->width,
                             latent, indices);
}

static jobject frames_of(JNIEnv* env, const vidtok_frames* f) {
    jclass type = (*env)->FindClass(env, "vidtok/Frames");
    jmethodID make = type ? (*env)->GetMethodID(env, type, "<init>", "(III[F)V") : NULL;
    jfloatArray pixels = make ? floats_of(env, f->pixels, f->count * f->height * f->width * 3) : NULL;
    if (!pixels) return NULL;
    return (*env)->NewObject(env, type, make, (jint)f->count, (jint)f->height, (jint)f->width, pixels);
}

/* Tokens out of Java while their arrays are held. */
typedef struct {
    vidtok_tokens tokens;
    jfloat* latent;
    jint* indices;
} Held;

static int hold(JNIEnv* env, jlongArray sizes, jfloatArray latent, jintArray indices, Held* held) {
    jlong n[4];
    (*env)->GetLongArrayRegion(env, sizes, 0, 4, n);
    held->latent = latent ? (*env)->GetFloatArrayElements(env, latent, NULL) : NULL;
    held->indices = indices ? (*env)->GetIntArrayElements(env, indices, NULL) : NULL;
    held->tokens.count = (size_t)n[0];
    held->tokens.channels = (size_t)n[1];
    held->tokens.height = (size_t)n[2];
    held->tokens.width = (size_t)n[3];
    held->tokens.latent = held->latent;
    held->tokens.indices = (const int32_t*)held->indices;
    return !(*env)->ExceptionCheck(env);
}

static void let_go(JNIEnv* env, jfloatArray latent, jintArray indices, Held* held) {
    if (held->latent) (*env)->ReleaseFloatArrayElements(env, latent, held->latent, JNI_ABORT);
    if (held->indices) (*env)->ReleaseIntArrayElements(env, indices, held->indices, JNI_ABORT);
}

NATIVE(void, loadOnnxRuntime)(JNIEnv* env, jclass self, jbyteArray path) {
    char* name = text_of(env, path);
    (void)self;
    if (name) check(env, vidtok_load_onnxruntime(name));
    free(name);
}

NATIVE(jlong, openTokenizer)(JNIEnv* env, jclass self, jbyteArray folder, jbyteArray provider, jbyteArray precision,
                             jlongArray numbers) {
    char *place = text_of(env, folder), *engine = text_of(env, provider), *kind = text_of(env, precision);
    vidtok_options options = {0};
    vidtok_tokenizer* tokenizer = NULL;
    jlong n[6];
    (void)self;
    (*env)->GetLongArrayRegion(env, numbers, 0, 6, n);
    if (!(*env)->ExceptionCheck(env)) {
        options.provider = engine;
        options.precision = kind;
        options.threads = (size_t)n[0];
        options.chunk = (size_t)n[1];
        options.max_tile = (size_t)n[2];
        options.max_memory = (size_t)n[3];
        options.window = (size_t)n[4];
        options.normalize = n[5] != 0;
        check(env, vidtok_tokenizer_open(place, &options, &tokenizer));
    }
    free(place);
    free(engine);
    free(kind);
    return (jlong)(intptr_t)tokenizer;
}

NATIVE(void, freeTokenizer)(JNIEnv* env, jclass self, jlong handle) {
    (void)env, (void)self;
    vidtok_tokenizer_free(HANDLE(tokenizer, handle));
}

NATIVE(jlong, openEncoder)(JNIEnv* env, jclass self, jlong tokenizer, jlong gop) {
    vidtok_encoder* encoder = NULL;
    (void)self;
    check(env, vidtok_encoder_open(HANDLE(tokenizer, tokenizer), (size_t)gop, &encoder));
    return (jlong)(intptr_t)encoder;
}

NATIVE(jobject, pushFrames)(JNIEnv* env, jclass self, jlong encoder, jbyteArray rgb, jint count, jint height,
                            jint width) {
    jbyte* bytes = (*env)->GetByteArrayElements(env, rgb, NULL);
    vidtok_tokens tokens;
    int well;
    (void)self;
    if (!bytes) return NULL;
    well = check(env, vidtok_encoder_push(HANDLE(encoder, encoder), (const uint8_t*)bytes, (size_t)count,
                                          (size_t)height, (size_t)width, &tokens));
    (*env)->ReleaseByteArrayElements(env, rgb, bytes, JNI_ABORT);
    return well ? tokens_of(env, &tokens) : NULL;
}

NATIVE(jobject, finishEncoder)(JNIEnv* env, jclass self, jlong encoder) {
    vidtok_tokens tokens;
    (void)self;
    return check(env, vidtok_encoder_finish(HANDLE(encoder, encoder), &tokens)) ? tokens_of(env, &tokens) : NULL;
}

NATIVE(void, freeEncoder)(JNIEnv* env, jclass self, jlong handle) {
    (void)env, (void)self;
    vidtok_encoder_free(HANDLE(encoder, handle));
}

NATIVE(jlong, openDecoder)(JNIEnv* env, jclass self, jlong tokenizer, jlong frames, jlong height, jlong width) {
    vidtok_decoder* decoder = NULL;
    (void)self;
    check(env, vidtok_decoder_open(HANDLE(tokenizer, tokenizer), (size_t)frames, (size_t)height, (size_t)width,
                                   &decoder));
    return (jlong)(intptr_t)decoder;
}

NATIVE(jlong, openDecoderOf)(JNIEnv* env, jclass self, jlong tokenizer, jlong reader) {
    vidtok_decoder* decoder = NULL;
    (void)self;
    check(env, vidtok_decoder_open_file(HANDLE(tokenizer, tokenizer), HANDLE(reader, reader), &decoder));
    return (jlong)(intptr_t)decoder;
}

NATIVE(jobject, pushTokens)(JNIEnv* env, jclass self, jlong decoder, jlongArray sizes, jfloatArray latent,
                            jintArray indices) {
    Held held = {0};
    vidtok_frames frames;
    int well;
    (void)self;
    well = hold(env, sizes, latent, indices, &held) &&
           check(env, vidtok_decoder_push(HANDLE(decoder, decoder), &held.tokens, &frames));
    let_go(env, latent, indices, &held);
    return well ? frames_of(env, &frames) : NULL;
}

NATIVE(jobject, finishDecoder)(JNIEnv* env, jclass self, jlong decoder) {
    vidtok_frames frames;
    (void)self;
    return check(env, vidtok_decoder_finish(HANDLE(decoder, decoder), &frames)) ? frames_of(env, &frames) : NULL;
}

NATIVE(void, freeDecoder)(JNIEnv* env, jclass self, jlong handle) {
    (void)env, (void)self;
    vidtok_decoder_free(HANDLE(decoder, handle));
}

NATIVE(jbyteArray, toBytes)(JNIEnv* env, jclass self, jfloatArray pixels) {
    const jsize count = (*env)->GetArrayLength(env, pixels);
    jbyteArray bytes = (*env)->NewByteArray(env, count);
    jfloat* from = bytes ? (*env)->GetFloatArrayElements(env, pixels, NULL) : NULL;
    jbyte* to = from ? (*env)->GetByteArrayElements(env, bytes, NULL) : NULL;
    (void)self;
    if (to) {
        vidtok_to_uint8(from, (size_t)count, (uint8_t*)to);
        (*env)->ReleaseByteArrayElements(env, bytes, to, 0);
    }
    if (from) (*env)->ReleaseFloatArrayElements(env, pixels, from, JNI_ABORT);
    return bytes;
}

NATIVE(jlong, openReader)(JNIEnv* env, jclass self, jbyteArray path) {
    char* name = text_of(env, path);
    vidtok_reader* reader = NULL;
    (void)self;
    if (name) check(env, vidtok_reader_open(name, &reader));
    free(name);
    return (jlong)(intptr_t)reader;
}

static jstring string_of(JNIEnv* env, const char* text) {
    jclass type = (*env)->FindClass(env, "java/lang/String");
    jmethodID make = type ? (*env)->GetMethodID(env, type, "<init>", "([BLjava/lang/String;)V") : NULL;
    jstring charset = make ? (*env)->NewStringUTF(env, "UTF-8") : NULL;
    jbyteArray bytes = charset ? bytes_of(env, text) : NULL;
    return bytes ? (jstring)(*env)->NewObject(env, type, make, bytes, charset) : NULL;
}

NATIVE(jobject, describe)(JNIEnv* env, jclass self, jlong reader) {
    vidtok_clip c;
    jclass type;
    jmethodID make;
    jstring family, name, weights, precision, provider;
    (void)self;
    if (!check(env, vidtok_reader_info(HANDLE(reader, reader), &c))) return NULL;
    type = (*env)->FindClass(env, "vidtok/Clip");
    make = type ? (*env)->GetMethodID(env, type, "<init>",
                                      "(Ljava/lang/String;Ljava/lang/String;Ljava/lang/String;Ljava/lang/String;"
                                      "Ljava/lang/String;JIIJJJJJJIII)V")
                : NULL;
    if (!make) return NULL;
    family = string_of(env, c.family);
    name = family ? string_of(env, c.name) : NULL;
    weights = name ? string_of(env, c.weights_sha256) : NULL;
    precision = weights ? string_of(env, c.precision) : NULL;
    provider = precision ? string_of(env, c.provider) : NULL;
    if (!provider) return NULL;
    return (*env)->NewObject(env, type, make, family, name, weights, precision, provider, (jlong)c.num_frames,
                             (jint)c.height, (jint)c.width, (jlong)c.fps.numerator, (jlong)c.fps.denominator,
                             (jlong)c.time_base.numerator, (jlong)c.time_base.denominator, (jlong)c.codebook_size,
                             (jlong)c.count, (jint)c.channels, (jint)c.token_height, (jint)c.token_width);
}

NATIVE(void, verify)(JNIEnv* env, jclass self, jlong reader) {
    (void)self;
    check(env, vidtok_reader_verify(HANDLE(reader, reader)));
}

NATIVE(jobject, read)(JNIEnv* env, jclass self, jlong reader, jlong start, jlong most) {
    vidtok_tokens tokens;
    (void)self;
    return check(env, vidtok_reader_read(HANDLE(reader, reader), (size_t)start, (size_t)most, &tokens))
               ? tokens_of(env, &tokens)
               : NULL;
}

NATIVE(jlongArray, pts)(JNIEnv* env, jclass self, jlong reader) {
    vidtok_clip clip;
    const int64_t* pts;
    jlongArray all;
    (void)self;
    if (!check(env, vidtok_reader_info(HANDLE(reader, reader), &clip))) return NULL;
    if (!check(env, vidtok_reader_pts(HANDLE(reader, reader), &pts))) return NULL;
    if (clip.num_frames > 0x7FFFFFF0) {
        out_of_memory(env);
        return NULL;
    }
    all = (*env)->NewLongArray(env, (jsize)clip.num_frames);
    if (all) (*env)->SetLongArrayRegion(env, all, 0, (jsize)clip.num_frames, (const jlong*)pts);
    return all;
}

NATIVE(void, freeReader)(JNIEnv* env, jclass self, jlong handle) {
    (void)env, (void)self;
    vidtok_reader_free(HANDLE(reader, handle));
}

NATIVE(jlong, openWriter)(JNIEnv* env, jclass self, jlong tokenizer, jbyteArray path, jboolean half, jboolean force) {
    char* name = text_of(env, path);
    vidtok_writer* writer = NULL;
    (void)self;
    if (name) check(env, vidtok_writer_open(HANDLE(tokenizer, tokenizer), name, half, force, &writer));
    free(name);
    return (jlong)(intptr_t)writer;
}

NATIVE(void, append)(JNIEnv* env, jclass self, jlong writer, jlongArray sizes, jfloatArray latent, jintArray indices) {
    Held held = {0};
    (void)self;
    if (hold(env, sizes, latent, indices, &held)) check(env, vidtok_writer_append(HANDLE(writer, writer), &held.tokens));
    let_go(env, latent, indices, &held);
}

NATIVE(void, finishWriter)(JNIEnv* env, jclass self, jlong writer, jlong encoder, jlongArray rates, jlongArray pts) {
    jlong* given = pts ? (*env)->GetLongArrayElements(env, pts, NULL) : NULL;
    vidtok_times times = {0};
    jlong n[4];
    (void)self;
    (*env)->GetLongArrayRegion(env, rates, 0, 4, n);
    if ((*env)->ExceptionCheck(env)) return;
    times.fps.numerator = n[0];
    times.fps.denominator = n[1];
    times.time_base.numerator = n[2];
    times.time_base.denominator = n[3];
    times.pts = (const int64_t*)given;
    times.num_pts = pts ? (size_t)(*env)->GetArrayLength(env, pts) : 0;
    check(env, vidtok_writer_finish(HANDLE(writer, writer), HANDLE(encoder, encoder), &times));
    if (given) (*env)->ReleaseLongArrayElements(env, pts, given, JNI_ABORT);
}

NATIVE(void, freeWriter)(JNIEnv* env, jclass self, jlong handle) {
    (void)env, (void)self;
    vidtok_writer_free(HANDLE(writer, handle));
}
