// Streams that start anew at every group of frames and latents, so that each group decodes on its own.
#pragma once

#include "decoder_stream.hpp"
#include "encoder_stream.hpp"
#include "timing.hpp"

namespace vidtok {

/// Frames to latents or tokens; what `Tokenizer::encoder` gives.
///
/// With a `gop` the state starts anew every so many latents: each such group is a clip of its own, whose first frame is
/// repeated in front of it.
class Encoder {
public:
    Encoder(StreamSource source, std::optional<std::size_t> gop) : source_(std::move(source)), stream_(source_) {
        const Manifest& m = *source_.manifest;
        group_frames_ = Timing{m.time_factor, m.front_frames, m.look_ahead, gop}.group_frames();
    }

    /// As EncoderStream::push.
    Tokens push(const std::uint8_t* frames, std::size_t count, std::size_t height, std::size_t width) {
        if (finished_) throw InputError("this encoder is finished; ask the tokenizer for a new one");
        if (num_frames_ && count && (height != height_ || width != width_)) {
            throw InputError("frames of one stream have one size");
        }
        height_ = height;
        width_ = width;
        num_frames_ += count;
        Tokens out;
        while (count) {
            if (stream_.num_frames() == group_frames_) stream_ = EncoderStream(source_);
            const std::size_t room = group_frames_ ? *group_frames_ - stream_.num_frames() : count;
            const std::size_t part = std::min(room, count);
            out.append(stream_.push(frames, part, height, width));
            if (stream_.num_frames() == group_frames_) out.append(stream_.finish());
            frames += part * height * width * 3;
            count -= part;
        }
        return out;
    }

    /// As EncoderStream::finish.
    Tokens finish() {
        finished_ = true;
        return stream_.finish();
    }

    std::size_t num_frames() const { return num_frames_; }

private:
    StreamSource source_;
    EncoderStream stream_;
    std::optional<std::size_t> group_frames_;
    std::size_t height_ = 0;
    std::size_t width_ = 0;
    std::size_t num_frames_ = 0;
    bool finished_ = false;
};

/// Latents or tokens to frames; what `Tokenizer::decoder` gives.
///
/// timing: groups as they were encoded. skip: frames to throw away before the first that counts.
class Decoder {
public:
    Decoder(StreamSource source, const Crop& crop, const Timing& timing, std::size_t skip)
        : source_(std::move(source)), crop_(crop), timing_(timing), skip_(skip), stream_(source_, Crop{}) {
        if (crop_.num_frames) *crop_.num_frames += skip;
        begin();
    }

    /// As DecoderStream::push.
    Frames push(const Tokens& tokens) {
        if (finished_) throw InputError("this decoder is finished; ask the tokenizer for a new one");
        Frames out;
        for (std::size_t at = 0; at < tokens.count;) {
            if (timing_.group == in_group_) begin();
            const std::size_t left = tokens.count - at;
            const std::size_t part = timing_.group ? std::min(*timing_.group - in_group_, left) : left;
            append(part == tokens.count ? stream_.push(tokens) : stream_.push(slice(tokens, at, part)), out);
            in_group_ += part;
            at += part;
            if (timing_.group == in_group_) append(stream_.finish(), out);
        }
        return out;
    }

    /// End the stream and return what waited; throws InputError when fewer frames came out than were promised.
    Frames finish() {
        finished_ = true;
        Frames out;
        append(stream_.finish(), out);
        if (crop_.num_frames.value_or(0)) {
            throw InputError("the tokens end " + std::to_string(*crop_.num_frames) +
                             " frames too early; the stream is incomplete");
        }
        return out;
    }

private:
    void begin() {
        Crop part = crop_;
        if (crop_.num_frames) {
            part.num_frames = std::min(*crop_.num_frames, timing_.group_frames().value_or(*crop_.num_frames));
            *crop_.num_frames -= *part.num_frames;
        }
        stream_ = DecoderStream(source_, part);
        in_group_ = 0;
    }

    static Tokens slice(const Tokens& all, std::size_t at, std::size_t count) {
        const auto cut = [&](const auto& numbers) {
            using Numbers = std::decay_t<decltype(numbers)>;
            if (numbers.empty()) return Numbers{};
            const auto first = numbers.begin() + static_cast<std::ptrdiff_t>(at * all.step_size());
            return Numbers(first, first + static_cast<std::ptrdiff_t>(count * all.step_size()));
        };
        return {count, all.channels, all.height, all.width, cut(all.latent), cut(all.indices)};
    }

    void append(Frames&& more, Frames& out) {
        const std::size_t surplus = std::min(skip_, more.count);
        skip_ -= surplus;
        const auto first = static_cast<std::ptrdiff_t>(surplus * more.height * more.width * 3);
        out.height = more.height;
        out.width = more.width;
        out.count += more.count - surplus;
        if (out.pixels.empty() && surplus == 0) {
            out.pixels = std::move(more.pixels);
        } else {
            out.pixels.insert(out.pixels.end(), more.pixels.begin() + first, more.pixels.end());
        }
    }

    StreamSource source_;
    Crop crop_;  // num_frames: those of the groups that are not begun yet
    Timing timing_;
    std::size_t skip_;
    DecoderStream stream_;
    std::size_t in_group_ = 0;
    bool finished_ = false;
};

}  // namespace vidtok
