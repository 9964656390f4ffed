// OpenVINO on the CPU, computing in float32. A state's two tensors change places after every call; nothing is copied.
#pragma once

#include <openvino/openvino.hpp>

#include <cstring>

#include "machine.hpp"
#include "openvino_means.hpp"
#include "session.hpp"

namespace vidtok {

namespace detail {

inline std::string last_line(const char* what) {
    std::string text = what;
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    const auto at = text.find_last_of('\n');
    return at == std::string::npos ? text : text.substr(at + 1);
}

inline std::string openvino_dtype(const ov::element::Type& type) {
    if (type == ov::element::f32) return "float32";
    if (type == ov::element::f16) return "float16";
    if (type == ov::element::i32) return "int32";
    if (type == ov::element::i64) return "int64";
    if (type == ov::element::u8) return "uint8";
    if (type == ov::element::i8) return "int8";
    return type == ov::element::boolean ? "bool" : type.get_type_name();
}

class OpenVinoRequest final : public Request {
public:
    explicit OpenVinoRequest(ov::CompiledModel& model) : request_(model.create_infer_request()) {
        for (const auto& port : model.inputs()) types_[port.get_any_name()] = port.get_element_type();
    }

    Tensor input(const std::string& name, const Shape& shape) override {
        ov::Tensor& tensor = inputs_[name];
        if (!tensor || tensor.get_shape() != ov::Shape(shape)) {
            tensor = zeros(name, shape);
            request_.set_tensor(name, tensor);
        }
        return view(tensor);
    }

    void start(const std::vector<StateTensor>& states) override {
        inputs_.clear();
        states_.clear();
        for (const StateTensor& s : states) {
            states_.push_back({s.input, s.output, zeros(s.input, s.shape), zeros(s.input, s.shape)});
        }
    }

    void run(bool release) override {
        try {
            for (StatePair& state : states_) {
                request_.set_tensor(state.input, state.now);
                request_.set_tensor(state.output, state.next);
            }
            request_.infer();
        } catch (const ov::Exception& error) {
            throw ProviderError("OpenVINO failed: " + last_line(error.what()));
        }
        if (release) try_to_release();
        for (StatePair& state : states_) {
            if (state.next.get_shape() != state.now.get_shape()) {  // the engine makes room for what comes
                throw BundleError("the state " + state.output + " changed its size; export the bundle again");
            }
            std::swap(state.now, state.next);
        }
    }

    Tensor output(const std::string& name) override { return view(request_.get_tensor(name)); }

private:
    struct StatePair {
        std::string input;
        std::string output;
        ov::Tensor now;
        ov::Tensor next;
    };

    /// Results are not among what is released. While another stream computes it cannot be done, and that one will.
    void try_to_release() {
        try {
            request_.get_compiled_model().release_memory();
        } catch (const ov::Exception&) {
        }
    }

    ov::Tensor zeros(const std::string& name, const Shape& shape) const {
        try {
            ov::Tensor tensor(types_.at(name), ov::Shape(shape));
            std::memset(tensor.data(), 0, tensor.get_byte_size());
            return tensor;
        } catch (const std::exception& error) {
            throw ProviderError("there is no memory for " + name + ": " + last_line(error.what()));
        }
    }

    static Tensor view(const ov::Tensor& tensor) {
        return {openvino_dtype(tensor.get_element_type()), tensor.get_shape(), const_cast<void*>(tensor.data())};
    }

    ov::InferRequest request_;
    std::map<std::string, ov::element::Type> types_;
    std::map<std::string, ov::Tensor> inputs_;
    std::vector<StatePair> states_;
};

class OpenVinoSession final : public Session {
public:
    OpenVinoSession(const fs::path& path, std::size_t threads) {
        ov::AnyMap settings{ov::hint::inference_precision(ov::element::f32),
                            ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                            // Every session that pins takes the same first cores: two on one machine would share one.
                            ov::hint::enable_cpu_pinning(false),
                            ov::inference_num_threads(static_cast<int>(threads ? threads : cores()))};
        try {
            // One for the process: the CPU plugin gives the thread that loads it a stack for signals and unmaps it with
            // the last Core; dropped by another thread, the next signal on that stack would kill the process.
            static ov::Core core;
            const std::shared_ptr<ov::Model> graph = core.read_model(detail::text_of(path));
            reduce_means(*graph);
            model_ = core.compile_model(graph, "CPU", settings);
        } catch (const std::exception& error) {
            throw BundleError("OpenVINO cannot load " + detail::text_of(path) + ": " + last_line(error.what()));
        }
    }

    PortShapes inputs() const override { return shapes(model_.inputs()); }
    PortShapes outputs() const override { return shapes(model_.outputs()); }
    std::unique_ptr<Request> request() override { return std::make_unique<OpenVinoRequest>(model_); }

private:
    static PortShapes shapes(const std::vector<ov::Output<const ov::Node>>& ports) {
        PortShapes all;
        for (const auto& port : ports) {
            PortShape& shape = all[port.get_any_name()];
            shape.dtype = openvino_dtype(port.get_element_type());
            for (const ov::Dimension& axis : port.get_partial_shape()) {
                const bool fixed = axis.is_static();
                shape.sizes.push_back(fixed ? std::optional<std::size_t>(axis.get_length()) : std::nullopt);
            }
        }
        return all;
    }

    ov::CompiledModel model_;
};

}  // namespace detail

/// OpenVINO on the CPU with so many threads; 0: one per core that the process may use.
inline Engine openvino(std::size_t threads = 0) {
    return {"openvino", [threads](const fs::path& path) -> std::unique_ptr<Session> {
                return std::make_unique<detail::OpenVinoSession>(path, threads);
            }};
}

}  // namespace vidtok
