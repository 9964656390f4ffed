// A local graph in whole numbers: one wrong position anywhere shows, since nothing rounds and nothing fades.
#pragma once

#include <vidtok/stateful_chain.hpp>

namespace whole_numbers {

using vidtok::Shape;
using vidtok::Tensor;
using vidtok::detail::Array;

constexpr std::size_t pixels = 4;  // a latent has along H and W
constexpr std::int64_t most = 251;

/// Numbers `T H W`.
struct Volume {
    std::size_t count, height, width;
    std::vector<std::int64_t> numbers;

    Volume(std::size_t t, std::size_t h, std::size_t w) : count(t), height(h), width(w), numbers(t * h * w) {}
    std::int64_t& at(std::size_t t, std::size_t y, std::size_t x) { return numbers[(t * height + y) * width + x]; }
};

/// Two by two numbers to one.
inline Volume smaller(Volume x) {
    Volume y(x.count, x.height / 2, x.width / 2);
    for (std::size_t t = 0; t < y.count; ++t)
        for (std::size_t i = 0; i < 2 * y.height; ++i)
            for (std::size_t j = 0; j < 2 * y.width; ++j) {
                const auto weight = static_cast<std::int64_t>(1 + i % 2 + 3 * (j % 2));
                std::int64_t& sum = y.at(t, i / 2, j / 2);
                sum = (sum + weight * x.at(t, i, j)) % most;
            }
    return y;
}

/// Each number four times.
inline Volume larger(Volume x) {
    Volume y(x.count, 2 * x.height, 2 * x.width);
    for (std::size_t t = 0; t < y.count; ++t)
        for (std::size_t i = 0; i < y.height; ++i)
            for (std::size_t j = 0; j < y.width; ++j) y.at(t, i, j) = x.at(t, i / 2, j / 2);
    return y;
}

/// Nine neighbours to one, zeros outside.
inline Volume mixed(Volume x) {
    Volume y(x.count, x.height, x.width);
    for (std::size_t t = 0; t < y.count; ++t)
        for (std::size_t i = 0; i < y.height; ++i)
            for (std::size_t j = 0; j < y.width; ++j)
                for (std::size_t k = 0; k < 9; ++k) {
                    const std::size_t row = i + k / 3, column = j + k % 3;  // one more than the neighbour's
                    if (row == 0 || row > x.height || column == 0 || column > x.width) continue;
                    const auto weight = static_cast<std::int64_t>(2 + k / 3 + 5 * (k % 3));
                    y.at(t, i, j) = (y.at(t, i, j) + weight * x.at(t, row - 1, column - 1)) % most;
                }
    return y;
}

/// At each of three resolutions a layer adds its own last input of the call before and mixes neighbours.
class Request final : public vidtok::Request {
public:
    explicit Request(bool encodes) : encodes_(encodes) {}

    Tensor input(const std::string& name, const Shape& shape) override { return room(inputs_, name, shape); }

    void start(const std::vector<vidtok::StateTensor>& states) override {
        inputs_.clear();
        states_ = states;
        for (const auto& state : states_) room(inputs_, state.input, state.shape);
    }

    void run(bool) override {
        const Tensor calls = inputs_.at("calls").tensor();
        Volume x = read(encodes_ ? "video" : "small");
        const auto more = number(calls, 0) + (*static_cast<bool*>(inputs_.at("odd").tensor().data) ? 1 : 0);
        for (std::int64_t& value : x.numbers) value += more;
        for (const std::size_t divisor : {encodes_ ? 1 : 4, 2, encodes_ ? 4 : 1}) {
            if (encodes_ && divisor > 1) x = smaller(x);
            if (!encodes_ && divisor < 4) x = larger(x);
            Volume before = read("s" + std::to_string(divisor)), last(1, x.height, x.width), sum = x;
            for (std::size_t t = 0; t < x.count; ++t)
                for (std::size_t i = 0; i < x.height; ++i)
                    for (std::size_t j = 0; j < x.width; ++j)
                        sum.at(t, i, j) += 5 * (t ? x.at(t - 1, i, j) : before.at(0, i, j));
            const std::size_t plane = x.height * x.width;
            std::copy(x.numbers.end() - static_cast<std::ptrdiff_t>(plane), x.numbers.end(), last.numbers.begin());
            write("new_s" + std::to_string(divisor), last);
            x = mixed(sum);
        }
        write(encodes_ ? "small" : "video", x);
        *static_cast<float*>(room(outputs_, "new_calls", {1}).data) = static_cast<float>(number(calls, 0) + 1);
        for (const auto& state : states_) std::swap(inputs_.at(state.input), outputs_.at(state.output));
    }

    Tensor output(const std::string& name) override { return outputs_.at(name).tensor(); }

private:
    static Tensor room(std::map<std::string, Array>& all, const std::string& name, const Shape& shape) {
        Array& array = all[name];
        if (array.tensor().shape != shape) array = Array(name, name == "odd" ? "bool" : "float32", shape);
        return array.tensor();
    }

    static std::int64_t number(const Tensor& tensor, std::size_t i) {
        return static_cast<std::int64_t>(static_cast<const float*>(tensor.data)[i]);
    }

    Volume read(const std::string& name) const {
        const Tensor tensor = inputs_.at(name).tensor();
        Volume x(tensor.shape[2], tensor.shape[3], tensor.shape[4]);
        for (std::size_t i = 0; i < x.numbers.size(); ++i) x.numbers[i] = number(tensor, i);
        return x;
    }

    void write(const std::string& name, const Volume& x) {
        const Tensor tensor = room(outputs_, name, {1, 1, x.count, x.height, x.width});
        std::copy(x.numbers.begin(), x.numbers.end(), static_cast<float*>(tensor.data));
    }

    bool encodes_;
    std::map<std::string, Array> inputs_;
    std::map<std::string, Array> outputs_;
    std::vector<vidtok::StateTensor> states_;
};

class Session final : public vidtok::Session {
public:
    explicit Session(bool encodes) : encodes_(encodes) {}
    vidtok::PortShapes inputs() const override { return {}; }
    vidtok::PortShapes outputs() const override { return {}; }
    std::unique_ptr<vidtok::Request> request() override { return std::make_unique<Request>(encodes_); }

private:
    bool encodes_;
};

/// The graph from video to small, or back.
inline std::shared_ptr<vidtok::LoadedGraph> graph(bool encodes) {
    const vidtok::Port video{"video", "float32", "N 1 T H W"}, small{"small", "float32", "N 1 T H/4 W/4"};
    auto loaded = std::make_shared<vidtok::LoadedGraph>();
    vidtok::GraphEntry& entry = loaded->entry;
    entry.role = encodes ? "encoder" : "decoder";
    entry.part = "local";
    entry.inputs = {encodes ? video : small};
    entry.outputs = {encodes ? small : video};
    entry.states = {{"s1", "new_s1", "float32", "N 1 1 H W"},
                    {"s2", "new_s2", "float32", "N 1 1 H/2 W/2"},
                    {"calls", "new_calls", "float32", "1"},
                    {"s4", "new_s4", "float32", "N 1 1 H/4 W/4"}};
    entry.flags = {{"odd", "bool", "1"}};
    entry.receptive_field = 1 + 2 + 4;
    loaded->session = std::make_unique<Session>(encodes);
    return loaded;
}

}  // namespace whole_numbers
