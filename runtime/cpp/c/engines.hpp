// The engines, each found at run time when it is first asked for.
#pragma once

#include <vidtok/session.hpp>

namespace vidtok::c {

/// An engine by the name of its provider; throws ProviderError.
Engine load_engine(const std::string& provider, std::size_t threads);

/// ONNX Runtime, from where `load_onnxruntime` found it or finds it now; throws ProviderError.
Engine onnxruntime_engine(std::size_t threads);

/// Load ONNX Runtime from a file, once for the process; throws ProviderError.
void load_onnxruntime(const fs::path& file);

}  // namespace vidtok::c
