// The module that libvidtok loads for the provider "openvino": the one place of the C library that includes OpenVINO.
#include <vidtok/session_openvino.hpp>

#ifdef _WIN32
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

extern "C" EXPORTED void VIDTOK_ENGINE_SYMBOL(std::size_t threads, vidtok::Engine* engine) {
    *engine = vidtok::openvino(threads);
}
