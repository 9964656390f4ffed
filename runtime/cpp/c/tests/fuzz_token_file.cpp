// For libFuzzer: any bytes as a token file, read through the C API. What is refused has a text; what is taken is whole.
#include <vidtok.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string path = [] {
        const char* const folder = std::getenv("TMPDIR");
        return std::string(folder ? folder : "/tmp") + "/fuzz.safetensors";
    }();
    std::FILE* const file = std::fopen(path.c_str(), "wb");
    if (file == nullptr || std::fwrite(data, 1, size, file) != size || std::fclose(file) != 0) std::abort();

    vidtok_reader* reader = nullptr;
    if (vidtok_reader_open(path.c_str(), &reader) != VIDTOK_OK) {
        if (std::strlen(vidtok_error()) == 0 || std::strchr(vidtok_error(), '\n') || reader != nullptr) std::abort();
        return 0;
    }
    vidtok_clip clip;
    if (vidtok_reader_info(reader, &clip) != VIDTOK_OK || clip.count == 0) std::abort();
    static_cast<void>(vidtok_reader_verify(reader));
    for (std::size_t at = 0; at < clip.count; at += 3) {
        vidtok_tokens tokens;
        if (vidtok_reader_read(reader, at, 3, &tokens) != VIDTOK_OK) std::abort();
        if (tokens.count == 0 || (tokens.latent == nullptr) == (tokens.indices == nullptr)) std::abort();
    }
    const std::int64_t* pts = nullptr;
    if (vidtok_reader_pts(reader, &pts) == VIDTOK_OK) {
        for (std::size_t i = 1; i < clip.num_frames; ++i) {
            if (pts[i] <= pts[i - 1]) std::abort();
        }
    }
    vidtok_reader_free(reader);
    return 0;
}
