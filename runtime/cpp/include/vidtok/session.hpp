// One interface over the inference engines. An engine owns the memory of all tensors, those of the state among them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace vidtok {

/// Bytes of a number of a type, as manifests name it.
inline std::size_t bytes_of(const std::string& dtype) {
    return dtype == "int64" ? 8 : dtype == "float16" ? 2 : dtype.back() == '2' ? 4 : 1;
}

/// Memory of an engine's tensor: numbers of `dtype`, as manifests name it, in C order.
struct Tensor {
    std::string dtype;
    Shape shape;
    void* data = nullptr;

    /// How many numbers; the engine has counted them before without overflow.
    std::size_t count() const {
        std::size_t n = 1;
        for (const std::size_t size : shape) n *= size;
        return n;
    }

    std::size_t bytes() const { return bytes_of(dtype) * count(); }
};

/// An output that is fed to an input by the next call.
struct StateTensor {
    std::string input;
    std::string output;
    Shape shape;
};

/// The calls of one stream through a loaded graph.
class Request {
public:
    Request() = default;
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    virtual ~Request() = default;

    /// Memory of an input for the next call, to be filled; not for states that `start` was told of.
    virtual Tensor input(const std::string& name, const Shape& shape) = 0;

    /// Begin a stream: from now on these outputs feed these inputs, which start at zero; other inputs are filled anew.
    /// Throws ProviderError.
    virtual void start(const std::vector<StateTensor>& states) = 0;

    /// Run the graph; release: what would only make the next call faster is given back to the system. Throws
    /// ProviderError, and BundleError when a state comes out with another size.
    virtual void run(bool release) = 0;

    /// An output of the latest call, until the next one; not of states that `start` was told of.
    virtual Tensor output(const std::string& name) = 0;
};

/// Type of each input or output and its sizes, none where any will do.
struct PortShape {
    std::string dtype;
    std::vector<std::optional<std::size_t>> sizes;
};
using PortShapes = std::map<std::string, PortShape>;

/// A loaded graph, from which any number of streams may run.
class Session {
public:
    Session() = default;
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    virtual ~Session() = default;

    virtual PortShapes inputs() const = 0;
    virtual PortShapes outputs() const = 0;
    virtual std::unique_ptr<Request> request() = 0;
};

/// An inference engine: what manifests call it, and how it loads a graph (throws BundleError).
struct Engine {
    std::string provider;
    std::function<std::unique_ptr<Session>(const fs::path&)> load;
};

/// A graph of a bundle that an engine has loaded.
struct LoadedGraph {
    GraphEntry entry;
    std::unique_ptr<Session> session;
};

namespace detail {

inline std::string text_of(const PortShape& port) {
    std::string text = port.dtype + " [";
    for (std::size_t i = 0; i < port.sizes.size(); ++i) {
        text += (i ? " " : "") + (port.sizes[i] ? std::to_string(*port.sizes[i]) : std::string("?"));
    }
    return text + "]";
}

/// Throw BundleError where names, types or sizes of a graph are not those of the manifest.
inline void check_ports(const std::string& where, const std::vector<Port>& expected, const PortShapes& found) {
    for (const Port& port : expected) {
        const auto it = found.find(port.name);
        if (it == found.end()) throw BundleError(where + ": only the manifest has " + port.name);
        const std::vector<std::string> axes = split_axes(port.axes);
        bool fits = it->second.dtype == port.dtype && it->second.sizes.size() == axes.size();
        for (std::size_t i = 0; fits && i < axes.size(); ++i) {  // only numbers can contradict each other
            const std::optional<std::size_t> size = it->second.sizes[i];
            fits = !size || axes[i][0] >= 'A' || std::stoul(axes[i]) == *size;
        }
        if (!fits) {
            throw BundleError(where + ": " + port.name + " is " + port.dtype + " [" + port.axes +
                              "] in the manifest, " + text_of(it->second) + " in the graph");
        }
    }
    for (const auto& [name, port] : found) {
        bool known = false;
        for (const Port& wanted : expected) known = known || wanted.name == name;
        if (!known) throw BundleError(where + ": only the graph has " + name);
    }
}

}  // namespace detail

/// The graphs of a role, in the order in which they run.
using LoadedChain = std::vector<std::shared_ptr<LoadedGraph>>;

/// Load the graphs of a role and check them against the manifest; throws BundleError.
inline LoadedChain load_chain(const Manifest& manifest, const std::vector<GraphEntry>& graphs, const Engine& engine) {
    check_files(manifest, graphs);
    LoadedChain chain;
    for (const GraphEntry& entry : graphs) {
        const fs::path path = manifest.folder / entry.file;
        auto graph = std::make_shared<LoadedGraph>();
        graph->entry = entry;
        graph->session = engine.load(path);
        const std::string where = detail::text_of(path) + " does not fit its manifest";
        detail::check_ports(where, entry.all_inputs(), graph->session->inputs());
        detail::check_ports(where, entry.all_outputs(), graph->session->outputs());
        chain.push_back(std::move(graph));
    }
    return chain;
}

}  // namespace vidtok
