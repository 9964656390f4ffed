// Parts of arrays whose last axes are H and W, and arrays that no engine owns.
#pragma once

#include <cstring>
#include <new>

#include "session.hpp"
#include "tiles.hpp"

namespace vidtok::detail {

/// An axis of a frame.
enum class Axis { rows, columns };

/// Rows and columns of an array with any axes before them.
struct Block {
    std::string dtype;
    std::uint8_t* data = nullptr;
    std::size_t planes = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::size_t row = 0;  // bytes from one to the next
    std::size_t plane = 0;

    Block part(const Span& rows, const Span& columns) const {
        Block other = *this;
        other.data += rows.start * row + columns.start * bytes_of(dtype);
        other.height = rows.size();
        other.width = columns.size();
        return other;
    }
    Block part(Axis axis, const Span& span) const {
        return axis == Axis::rows ? part(span, {0, width}) : part({0, height}, span);
    }
};

/// A whole tensor, which has two axes at least.
inline Block block_of(const Tensor& tensor) {
    const std::size_t rank = tensor.shape.size(), height = tensor.shape[rank - 2], width = tensor.shape[rank - 1];
    std::size_t planes = 1;
    for (std::size_t i = 0; i + 2 < rank; ++i) planes *= tensor.shape[i];
    const std::size_t row = width * bytes_of(tensor.dtype);
    return {tensor.dtype, static_cast<std::uint8_t*>(tensor.data), planes, height, width, row, height * row};
}

/// Into the start of a block that is as large at least.
inline void copy(const Block& from, const Block& to) {
    if (from.width == 0) return;  // perhaps without memory
    const std::size_t bytes = from.width * bytes_of(from.dtype);
    for (std::size_t p = 0; p < from.planes; ++p) {
        for (std::size_t y = 0; y < from.height; ++y) {
            std::memcpy(to.data + p * to.plane + y * to.row, from.data + p * from.plane + y * from.row, bytes);
        }
    }
}

/// The part of a tile's result that is right, to its place in the whole frame; scale: positions a latent.
inline void copy_kept(const Tensor& result, const Tile& row, const Tile& column, std::size_t scale,
                      const Tensor& frame) {
    copy(block_of(result).part(row.kept.at(scale, row.extent.start), column.kept.at(scale, column.extent.start)),
         block_of(frame).part(row.kept.at(scale), column.kept.at(scale)));
}

/// A tensor in memory of its own, zero at first.
class Array {
public:
    Array() = default;

    /// Throws ProviderError where memory is short; name: of what it holds.
    Array(const std::string& name, const std::string& dtype, const Shape& shape) : tensor_{dtype, shape, nullptr} {
        std::size_t count = bytes_of(dtype);
        try {
            for (const std::size_t size : shape) {
                if (size && count > SIZE_MAX / size) throw std::bad_alloc();
                count *= size;
            }
            memory_.resize(count);
        } catch (const std::exception&) {
            throw ProviderError("there is no memory for " + name);
        }
        tensor_.data = memory_.data();
    }

    // Not copied: the tensor would show the other's memory.
    Array(Array&&) = default;
    Array& operator=(Array&&) = default;

    const Tensor& tensor() const { return tensor_; }

private:
    Tensor tensor_;
    std::vector<std::uint8_t> memory_;
};

}  // namespace vidtok::detail
