// The one place that includes the engines, whose headers take long to compile.
#include "engines.hpp"

#ifdef VIDTOK_WITH_OPENVINO
#include <vidtok/session_openvino.hpp>
#endif
#ifdef VIDTOK_WITH_ONNXRUNTIME
#include <vidtok/session_ort.hpp>
#endif

std::vector<std::string> built_in() {
    return {
#ifdef VIDTOK_WITH_OPENVINO
        "openvino",
#endif
#ifdef VIDTOK_WITH_ONNXRUNTIME
        "cpu",
#endif
    };
}

vidtok::Engine make_engine(const std::string& provider, std::size_t threads) {
#ifdef VIDTOK_WITH_OPENVINO
    if (provider == "openvino") return vidtok::openvino(threads);
#endif
#ifdef VIDTOK_WITH_ONNXRUNTIME
    if (provider == "cpu") return vidtok::onnxruntime(threads);
#endif
    static_cast<void>(threads);
    std::string names;
    for (const std::string& name : built_in()) names += (names.empty() ? "" : ", ") + name;
    throw vidtok::ProviderError("provider " + provider + " is not built in; choose " + names +
                                ", or build with -DVIDTOK_" + (provider == "cpu" ? "ONNXRUNTIME" : "OPENVINO") + "=ON");
}
