// ONNX Runtime through the one function that its library exports.
#define ORT_API_MANUAL_INIT
#include <vidtok/session_ort.hpp>

#include <mutex>

#include "border.hpp"
#include "engines.hpp"
#include "shared_library.hpp"

namespace vidtok::c {

namespace {

// The oldest that runs our graphs. Newer libraries have what it has; newer headers may not ask for more.
constexpr std::uint32_t oldest = 20;

#if defined(_WIN32)
constexpr const char* usual_name = "onnxruntime.dll";
#elif defined(__APPLE__)
constexpr const char* usual_name = "libonnxruntime.1.dylib";
#else
constexpr const char* usual_name = "libonnxruntime.so.1";
#endif

std::mutex turn;
std::optional<fs::path> loaded;

void load(const fs::path& file) {
    const SharedLibrary library = SharedLibrary::open(file);
    const OrtApiBase* const base = library.function<const OrtApiBase*()>("OrtGetApiBase")();
    const OrtApi* const api = base->GetApi(oldest);
    if (api == nullptr) {
        throw ProviderError(detail::text_of(file) + " is ONNX Runtime " + base->GetVersionString() +
                            ", this library needs 1." + std::to_string(oldest) + " or newer");
    }
    Ort::InitApi(api);
    loaded = file;
}

/// By VIDTOK_ONNXRUNTIME, beside this library, or where the system looks.
fs::path place() {
    const fs::path named = detail::path_in_environment("VIDTOK_ONNXRUNTIME");
    if (!named.empty()) return named;
    const fs::path beside = own_folder() / usual_name;
    return is_file(beside) ? beside : fs::path(usual_name);
}

}  // namespace

void load_onnxruntime(const fs::path& file) {
    const std::lock_guard<std::mutex> one_at_a_time(turn);
    if (loaded && *loaded == file) return;
    if (loaded) throw ProviderError("ONNX Runtime was loaded before, from " + detail::text_of(*loaded));
    load(file);
}

Engine onnxruntime_engine(std::size_t threads) {
    const std::lock_guard<std::mutex> one_at_a_time(turn);
    try {
        if (!loaded) load(place());
    } catch (const ProviderError& error) {
        throw ProviderError(std::string("provider cpu is not here: ") + error.what() +
                            "; name its library in VIDTOK_ONNXRUNTIME or to vidtok_load_onnxruntime");
    }
    return vidtok::onnxruntime(threads);
}

}  // namespace vidtok::c

vidtok_status vidtok_load_onnxruntime(const char* path) {
    return vidtok::c::guarded([&] {
        vidtok::c::need(path, "path");
        vidtok::c::load_onnxruntime(vidtok::detail::path_of(path));
    });
}
