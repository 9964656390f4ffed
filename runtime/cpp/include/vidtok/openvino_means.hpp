// Means over the channels as OpenVINO computes them fastest; see openvino_means.py, which does the same.
#pragma once

#include <openvino/openvino.hpp>
#include <openvino/opsets/opset13.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

namespace vidtok::detail {

/// 1 / C of a kernel `1 C 1 1 1` that takes the mean over C channels; nothing for every other.
inline std::optional<float> share_of_each(std::shared_ptr<ov::Node> kernel) {
    namespace op = ov::opset13;
    if (ov::is_type<op::Convert>(kernel)) kernel = kernel->get_input_node_shared_ptr(0);  // stored as float16
    const auto constant = ov::as_type_ptr<op::Constant>(kernel);
    if (!constant) return std::nullopt;
    const ov::Shape& shape = constant->get_shape();
    if (shape.size() != 5 || shape[0] != 1 || shape[1] == 1 || ov::shape_size(shape) != shape[1]) return std::nullopt;
    const float share = 1.0F / static_cast<float>(shape[1]);
    const std::vector<float> values = constant->cast_vector<float>();
    const auto alike = [share](float value) { return std::abs(value - share) <= 1e-6F * share; };
    return std::all_of(values.begin(), values.end(), alike) ? std::optional<float>(share) : std::nullopt;
}

/// Replaces 1x1x1 convolutions that take the mean over the channels by reductions.
inline void reduce_means(ov::Model& model) {
    namespace op = ov::opset13;
    const auto channels = op::Constant::create(ov::element::i64, {1}, {1});
    for (const auto& node : model.get_ordered_ops()) {
        if (!ov::is_type<op::Convolution>(node)) continue;
        const auto share = share_of_each(node->get_input_node_shared_ptr(1));
        if (!share) continue;
        const ov::Output<ov::Node> x = node->input_value(0);
        const auto squares = ov::as_type_ptr<op::Multiply>(x.get_node_shared_ptr());
        std::shared_ptr<ov::Node> mean;
        if (squares && squares->input_value(0) == squares->input_value(1)) {
            const auto norm = std::make_shared<op::ReduceL2>(squares->input_value(0), channels, true);
            const auto sum = std::make_shared<op::Multiply>(norm, norm);
            mean = std::make_shared<op::Multiply>(sum, op::Constant::create(ov::element::f32, {}, {*share}));
        } else {
            mean = std::make_shared<op::ReduceMean>(x, channels, true);
        }
        node->output(0).replace(mean->output(0));
    }
}

}  // namespace vidtok::detail
