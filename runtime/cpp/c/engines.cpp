#include "engines.hpp"

#include <optional>

#include "shared_library.hpp"

namespace vidtok::c {

namespace {

/// OpenVINO is C++ and cannot be called by name; the module beside this library is linked with it.
Engine openvino_engine(std::size_t threads) {
    const fs::path file = own_folder() / VIDTOK_OPENVINO_MODULE;
    if (!is_file(file)) {
        throw ProviderError("provider openvino is not here: there is no " + detail::text_of(file) +
                            "; build with -DVIDTOK_OPENVINO=ON, or choose cpu");
    }
    const SharedLibrary module = SharedLibrary::open(file);
    const auto make = module.function<void(std::size_t, Engine*)>(VIDTOK_ENGINE_NAME);
    Engine engine;
    make(threads, &engine);
    return engine;
}

}  // namespace

Engine load_engine(const std::string& provider, std::size_t threads) {
    if (provider == "cpu") return onnxruntime_engine(threads);
    if (provider == "openvino") return openvino_engine(threads);
    throw ProviderError("there is no provider " + provider + "; choose cpu or openvino");
}

}  // namespace vidtok::c
