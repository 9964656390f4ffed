// A state of whole frames, which tiles read with their margin and write without it.
#pragma once

#include "block.hpp"

namespace vidtok::detail {

/// Along one axis, what a tile reads before its kept part, as it was before earlier tiles wrote there.
class Border {
public:
    /// scale: positions a latent.
    Border(const Tiles& tiles, Axis axis, std::size_t scale) : tiles_(tiles), axis_(axis), scale_(scale) {}

    /// Turn to the next tile, before it writes, and set aside from `frame` what the one after it will need.
    void enter(std::size_t index, const Block& frame) {
        const Tile& now = tiles_[index];
        old_ = index ? std::move(next_) : Array();
        if (index + 1 == tiles_.size()) return;
        const Span set_aside{tiles_[index + 1].extent.start, now.kept.stop};
        next_ = room(frame, set_aside.size() * scale_);
        const Span fresh{std::max(set_aside.start, now.kept.start), set_aside.stop};
        if (fresh.start > set_aside.start) {  // earlier tiles have written there
            const Span held{set_aside.start, fresh.start};
            copy(old().part(axis_, held.at(scale_, now.extent.start)), block_of(next_.tensor()));
        }
        copy(frame.part(axis_, fresh.at(scale_)),
             block_of(next_.tensor()).part(axis_, fresh.at(scale_, set_aside.start)));
    }

    /// What was set aside for the tile whose turn it is.
    Block old() const { return old_.tensor().data ? block_of(old_.tensor()) : Block(); }

private:
    /// Memory for a strip of a frame, as wide as told along the axis.
    Array room(const Block& frame, std::size_t size) const {
        const bool rows = axis_ == Axis::rows;
        const Shape shape{frame.planes, rows ? size : frame.height, rows ? frame.width : size};
        return {"the borders of tiles", frame.dtype, shape};
    }

    const Tiles& tiles_;
    Axis axis_;
    std::size_t scale_;
    Array old_;
    Array next_;
};

/// A state of whole frames, of which each tile reads its extent as the call before left it and writes its kept part.
///
/// Tiles take turns row by row. What a later one still has to read is set aside before it is written over.
class FrameState {
public:
    /// frame: at the start of a stream. scale: positions a latent.
    FrameState(Array frame, const Tiling& tiling, std::size_t scale)
        : frame_(std::move(frame)),
          tiling_(tiling),
          scale_(scale),
          above_(tiling.rows, Axis::rows, scale),
          left_(tiling.columns, Axis::columns, scale) {}

    /// Into memory for it, what tile j of row i takes.
    void read(std::size_t i, std::size_t j, const Tensor& to) {
        const Tile &row = tiling_.rows[i], &column = tiling_.columns[j];
        const Block frame = block_of(frame_.tensor()), value = block_of(to);
        if (j == 0) above_.enter(i, frame);
        left_.enter(j, frame.part(Axis::rows, row.kept.at(scale_)));
        copy(frame.part(row.extent.at(scale_), column.extent.at(scale_)), value);
        if (i) copy(above_.old().part(Axis::columns, column.extent.at(scale_)), value);
        copy(left_.old(), value.part(Axis::rows, row.kept.at(scale_, row.extent.start)));
    }

    /// What tile j of row i gave.
    void write(std::size_t i, std::size_t j, const Tensor& from) {
        copy_kept(from, tiling_.rows[i], tiling_.columns[j], scale_, frame_.tensor());
    }

private:
    Array frame_;
    const Tiling& tiling_;
    std::size_t scale_;
    Border above_;
    Border left_;
};

}  // namespace vidtok::detail
