// Streams that start anew at every group of frames and latents, so that each group decodes on its own.
#pragma once

#include "decoder_stream.hpp"
#include "encoder_stream.hpp"
#include "latent_scale.hpp"
#include "work.hpp"

namespace vidtok {

/// Frames to latents or tokens; what `Tokenizer::encoder` gives.
///
/// Where the spec has groups, each is a clip of its own, whose first frame is repeated in front of it, and begins with
/// the frames that it shares with the one before. normalize: apply the bundle's latent mean and scale.
class Encoder {
public:
    Encoder(StreamSource source, bool normalize)
        : source_(std::move(source)), groups_(source_.spec->groups), normalize_(normalize), stream_(source_) {}

    /// As EncoderStream::push. What it refuses changes nothing; where its work fails, the stream has ended.
    Tokens push(const std::uint8_t* frames, std::size_t count, std::size_t height, std::size_t width) {
        work_.check();
        if (finished_) throw InputError("this encoder is finished; ask the tokenizer for a new one");
        if (count == 0) return {};  // of whatever size: what the groups share has that of the frames before
        stream_.open(height, width);
        height_ = height;
        width_ = width;
        return work_.run([&] { return take(frames, count); });
    }

    /// As EncoderStream::finish.
    Tokens finish() {
        work_.check();
        finished_ = true;
        return work_.run([&] { return scaled(stream_.finish()); });
    }

    std::size_t num_frames() const { return num_frames_; }

private:
    Tokens take(const std::uint8_t* frames, std::size_t count) {
        num_frames_ += count;
        Tokens out;
        while (count) {
            if (groups_ && stream_.num_frames() == groups_->frames) begin_next(out);
            const std::size_t part = groups_ ? std::min(groups_->frames - stream_.num_frames(), count) : count;
            out.append(stream_.push(frames, part, height_, width_));
            if (groups_) remember(frames, part);
            if (groups_ && stream_.num_frames() == groups_->frames) out.append(stream_.finish());
            frames += part * height_ * width_ * 3;
            count -= part;
        }
        return scaled(std::move(out));
    }

    void begin_next(Tokens& out) {
        stream_ = EncoderStream(source_, groups_->shared_latents);
        if (groups_->shared_frames) {
            out.append(stream_.push(shared_.data(), groups_->shared_frames, height_, width_));
        }
    }

    /// Keep the frames that the next group shares.
    void remember(const std::uint8_t* frames, std::size_t count) {
        const std::size_t frame = height_ * width_ * 3, most = groups_->shared_frames * frame;
        shared_.insert(shared_.end(), frames + (count - std::min(count, groups_->shared_frames)) * frame,
                       frames + count * frame);
        if (shared_.size() > most) shared_.erase(shared_.begin(), shared_.end() - static_cast<std::ptrdiff_t>(most));
    }

    Tokens scaled(Tokens tokens) const {
        if (normalize_) normalize(tokens, *source_.spec->latent_scale);
        return tokens;
    }

    StreamSource source_;
    std::optional<Groups> groups_;
    bool normalize_;
    EncoderStream stream_;
    detail::Work work_;
    std::vector<std::uint8_t> shared_;
    std::size_t height_ = 0;
    std::size_t width_ = 0;
    std::size_t num_frames_ = 0;
    bool finished_ = false;
};

/// Latents or tokens to frames; what `Tokenizer::decoder` gives.
///
/// skip: frames to throw away before the first that counts. normalized: the latents had mean and scale applied.
class Decoder {
public:
    Decoder(StreamSource source, const Crop& crop, std::size_t skip, bool normalized)
        : source_(std::move(source)),
          groups_(source_.spec->groups),
          crop_(crop),
          skip_(skip),
          normalized_(normalized),
          stream_(source_, Crop{}) {
        if (crop_.num_frames) *crop_.num_frames += skip;
        begin(0);
    }

    /// As DecoderStream::push. What it refuses changes nothing; where its work fails, the stream has ended.
    Frames push(const Tokens& given) {
        work_.check();
        if (finished_) throw InputError("this decoder is finished; ask the tokenizer for a new one");
        if (given.count == 0) return {};
        Tokens tokens = given;
        if (normalized_) denormalize(tokens, *source_.spec->latent_scale);
        stream_.open(tokens);
        return work_.run([&] { return take(tokens); });
    }

    /// End the stream and return what waited; throws InputError when fewer frames came out than were promised.
    Frames finish() {
        work_.check();
        finished_ = true;
        return work_.run([&] { return rest(); });
    }

private:
    Frames take(const Tokens& tokens) {
        Frames out;
        for (std::size_t at = 0; at < tokens.count;) {
            if (groups_ && in_group_ == groups_->latents) begin_next(out);
            const std::size_t left = tokens.count - at;
            const std::size_t part = groups_ ? std::min(groups_->latents - in_group_, left) : left;
            push_part(part == tokens.count ? tokens : tokens.slice(at, part), out);
            at += part;
        }
        return out;
    }

    Frames rest() {
        Frames out;
        append(stream_.finish(), out);
        if (crop_.num_frames.value_or(0)) {
            throw InputError("the tokens end " + std::to_string(*crop_.num_frames) +
                             " frames too early; the stream is incomplete");
        }
        return out;
    }

    /// Begin a group, of whose frames the first `shared` came out of the one before.
    void begin(std::size_t shared) {
        Crop part = crop_;
        if (groups_) part.num_frames = std::min(groups_->frames - shared, crop_.num_frames.value_or(groups_->frames));
        stream_ = DecoderStream(source_, part, shared);
        in_group_ = 0;
    }

    void begin_next(Frames& out) {
        begin(groups_->shared_frames);
        if (groups_->shared_latents) push_part(Tokens(shared_), out);
    }

    void push_part(const Tokens& tokens, Frames& out) {
        append(stream_.push(tokens), out);
        if (!groups_) return;
        in_group_ += tokens.count;
        if (groups_->shared_latents) {
            shared_.append(tokens);
            shared_ = shared_.slice(shared_.count - std::min(shared_.count, groups_->shared_latents));
        }
        if (in_group_ == groups_->latents) append(stream_.finish(), out);
    }

    void append(Frames&& more, Frames& out) {
        if (crop_.num_frames) *crop_.num_frames -= more.count;
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
    std::optional<Groups> groups_;
    Crop crop_;  // num_frames: those that did not come yet
    std::size_t skip_;
    bool normalized_;
    DecoderStream stream_;
    detail::Work work_;
    Tokens shared_;  // the latents that the next group shares
    std::size_t in_group_ = 0;
    bool finished_ = false;
};

}  // namespace vidtok
