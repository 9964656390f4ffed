// ONNX Runtime on the CPU. What a call leaves of a state is copied into the tensor that it came from.
#pragma once

#if defined(__MINGW32__)  // words of Microsoft's compiler that the header takes for granted on Windows
#include <sal.h>
#ifndef _stdcall
#define _stdcall __attribute__((stdcall))
#endif
#endif
#include <onnxruntime_cxx_api.h>

#include <cstdlib>
#include <cstring>

#include "machine.hpp"
#include "session.hpp"

namespace vidtok {

namespace detail {

inline std::string ort_dtype(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "float32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return "float16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: return "int32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return "int64";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return "uint8";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: return "int8";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL: return "bool";
        default: return "type " + std::to_string(type);
    }
}

inline std::string first_line(const char* what) {
    const std::string text = what;
    return text.substr(0, text.find('\n'));
}

class OrtRequest final : public Request {
public:
    OrtRequest(Ort::Session& session, const std::map<std::string, ONNXTensorElementDataType>& types,
               const std::vector<std::string>& outputs)
        : session_(session), types_(types), results_(outputs) {}

    Tensor input(const std::string& name, const Shape& shape) override {
        const auto it = inputs_.find(name);
        if (it == inputs_.end() || view(it->second).shape != shape) {
            inputs_.erase(name);
            return view(inputs_.emplace(name, zeros(name, shape)).first->second);
        }
        return view(it->second);
    }

    void start(const std::vector<StateTensor>& states) override {
        inputs_.clear();
        states_.clear();
        for (const StateTensor& s : states) {
            states_.push_back({s.input, s.output, zeros(s.input, s.shape)});
        }
    }

    void run(bool release) override {
        std::vector<const char*> names, result_names;
        std::vector<const OrtValue*> given;
        std::vector<OrtValue*> results(results_.size(), nullptr);
        for (const auto& [name, value] : inputs_) {
            names.push_back(name.c_str());
            given.push_back(value);
        }
        for (const HeldState& state : states_) {
            names.push_back(state.input.c_str());
            given.push_back(state.value);
        }
        outputs_.clear();
        for (const std::string& name : results_) result_names.push_back(name.c_str());
        Ort::RunOptions options;
        if (release) options.AddConfigEntry("memory.enable_memory_arena_shrinkage", "cpu:0");
        const OrtStatusPtr status = Ort::GetApi().Run(session_, options, names.data(), given.data(), given.size(),
                                                      result_names.data(), result_names.size(), results.data());
        for (std::size_t i = 0; i < results.size(); ++i) {
            if (results[i] != nullptr) outputs_.emplace(results_[i], Ort::Value(results[i]));
        }
        try {
            Ort::ThrowOnError(status);
        } catch (const Ort::Exception& error) {
            throw ProviderError("ONNX Runtime failed: " + first_line(error.what()));
        }
        for (const HeldState& state : states_) keep(state);
    }

    Tensor output(const std::string& name) override { return view(outputs_.at(name)); }

private:
    struct HeldState {
        std::string input;
        std::string output;
        Ort::Value value;
    };

    /// Copy what has come out: it lies among what the engine computes with, and would keep that from the next call.
    void keep(const HeldState& state) {
        const auto result = outputs_.extract(state.output);
        const Tensor from = view(result.mapped()), to = view(state.value);
        if (from.shape != to.shape) {
            throw BundleError("the state " + state.output + " changed its size; export the bundle again");
        }
        std::memcpy(to.data, from.data, to.bytes());
    }

    Ort::Value zeros(const std::string& name, const Shape& shape) const {
        try {
            const std::vector<std::int64_t> sizes(shape.begin(), shape.end());
            Ort::AllocatorWithDefaultOptions allocator;
            Ort::Value value = Ort::Value::CreateTensor(allocator, sizes.data(), sizes.size(), types_.at(name));
            const Tensor tensor = view(value);
            std::memset(tensor.data, 0, tensor.bytes());
            return value;
        } catch (const Ort::Exception& error) {
            throw ProviderError("there is no memory for " + name + ": " + first_line(error.what()));
        }
    }

    static Tensor view(const Ort::Value& value) {
        const Ort::TensorTypeAndShapeInfo info = value.GetTensorTypeAndShapeInfo();
        const std::vector<std::int64_t> sizes = info.GetShape();
        return {ort_dtype(info.GetElementType()), Shape(sizes.begin(), sizes.end()),
                const_cast<void*>(value.GetTensorRawData())};
    }

    Ort::Session& session_;
    const std::map<std::string, ONNXTensorElementDataType>& types_;
    const std::vector<std::string>& results_;
    std::map<std::string, Ort::Value> inputs_;
    std::map<std::string, Ort::Value> outputs_;
    std::vector<HeldState> states_;
};

class OrtSession final : public Session {
public:
    OrtSession(const fs::path& path, std::size_t threads) {
        try {
            Ort::SessionOptions settings;
            settings.SetIntraOpNumThreads(static_cast<int>(threads ? threads : cores()));
            settings.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);  // errors are told by exceptions
            // A plan of the whole call's memory holds more at once: a third of the peak, for a few percent of the speed.
            settings.DisableMemPattern();
            session_ = Ort::Session(env_, path.c_str(), settings);
            const Ort::AllocatorWithDefaultOptions allocator;
            for (std::size_t i = 0; i < session_.GetInputCount(); ++i) {
                const std::string name = session_.GetInputNameAllocated(i, allocator).get();
                types_[name] = add(inputs_, name, session_.GetInputTypeInfo(i));
            }
            for (std::size_t i = 0; i < session_.GetOutputCount(); ++i) {
                results_.emplace_back(session_.GetOutputNameAllocated(i, allocator).get());
                add(outputs_, results_.back(), session_.GetOutputTypeInfo(i));
            }
        } catch (const Ort::Exception& error) {
            throw BundleError("ONNX Runtime cannot load " + detail::text_of(path) + ": " + first_line(error.what()));
        }
    }

    PortShapes inputs() const override { return inputs_; }
    PortShapes outputs() const override { return outputs_; }
    std::unique_ptr<Request> request() override { return std::make_unique<OrtRequest>(session_, types_, results_); }

private:
    static ONNXTensorElementDataType add(PortShapes& ports, const std::string& name, const Ort::TypeInfo& type) {
        PortShape& port = ports[name];
        if (type.GetONNXType() != ONNX_TYPE_TENSOR) {  // a sequence, say, has no such info, and no manifest has one
            port.dtype = "no tensor";
            return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        }
        const auto info = type.GetTensorTypeAndShapeInfo();
        port.dtype = ort_dtype(info.GetElementType());
        for (const std::int64_t size : info.GetShape()) {
            port.sizes.push_back(size < 0 ? std::nullopt : std::optional<std::size_t>(size));
        }
        return info.GetElementType();
    }

    /// Without the reports to the library's makers, which write an id and a record of its use to the home folder.
    ///
    /// The first one sets ORT_DISABLE_TELEMETRY of the environment, which no other thread may use meanwhile.
    static Ort::Env quiet_env() {
        [[maybe_unused]] static const bool once = (set_if_absent("ORT_DISABLE_TELEMETRY", "1"), true);
        return Ort::Env(ORT_LOGGING_LEVEL_FATAL, "vidtok");
    }

    Ort::Env env_ = quiet_env();
    Ort::Session session_{nullptr};
    std::map<std::string, ONNXTensorElementDataType> types_;
    std::vector<std::string> results_;
    PortShapes inputs_;
    PortShapes outputs_;
};

}  // namespace detail

/// ONNX Runtime on the CPU with so many threads; 0: one per core that the process may use.
inline Engine onnxruntime(std::size_t threads = 0) {
    return {"cpu", [threads](const fs::path& path) -> std::unique_ptr<Session> {
                return std::make_unique<detail::OrtSession>(path, threads);
            }};
}

}  // namespace vidtok
