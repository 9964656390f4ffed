// Files read in pieces, and outputs that appear under their name only when complete.
#pragma once

#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "error.hpp"
#include "sha256.hpp"
#include "system.hpp"

namespace vidtok {

/// Whether a regular file is there, or a link to one.
inline bool is_file(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error);
}

/// A regular file opened for reading; throws FormatError with the system's reason.
inline File open_file(const fs::path& path) {
    if (!is_file(path)) throw FormatError("it is no file");
    File file = detail::open_to_read(path);
    if (!file) throw FormatError(std::strerror(errno));
    return file;
}

/// Reads as many bytes as there are, at most `size`; throws FormatError when the system fails.
inline std::size_t read_some(std::FILE* file, void* out, std::size_t size) {
    const std::size_t count = size ? std::fread(out, 1, size, file) : 0;
    if (count < size && std::ferror(file)) throw FormatError(std::strerror(errno));
    return count;
}

/// All bytes of a file that has at most `most` of them; throws FormatError.
inline std::string read_whole(const fs::path& path, std::uintmax_t most) {
    const File file = open_file(path);
    std::error_code error;
    const std::uintmax_t size = fs::file_size(path, error);
    if (error) throw FormatError(error.message());
    if (size > most) throw FormatError("it has more than " + std::to_string(most) + " bytes");
    std::string content(size, '\0');
    content.resize(read_some(file.get(), content.data(), size));
    return content;
}

/// SHA-256 of a file from a byte on, read in pieces; throws FormatError.
inline std::string sha256_of(const fs::path& path, std::size_t from = 0) {
    const File file = open_file(path);
    if (!detail::seek(file.get(), from)) throw FormatError(std::strerror(errno));
    Sha256 hash;
    std::vector<unsigned char> piece(std::size_t{1} << 20);
    while (const std::size_t count = read_some(file.get(), piece.data(), piece.size()))
        hash.update(piece.data(), count);
    return hash.hex();
}

namespace detail {

inline std::mutex parts_turn;  // whose turn it is to make, name or remove a part
inline std::set<fs::path> parts;

}  // namespace detail

/// Remove all parts of this process and let it make and name none any more: for a program that is about to end.
inline void discard_parts() {
    detail::parts_turn.lock();
    std::error_code ignored;
    for (const fs::path& part : detail::parts) fs::remove(part, ignored);
}

/// A target written beside itself under a name ending in `.part`; without `commit` nothing of it stays.
///
/// Of two writers without `force` the first to finish wins. `force` replaces regular files and nothing else: no folder,
/// link, device or pipe. Throws OutputError.
class PartFile {
public:
    PartFile(fs::path path, bool force) : path_(std::move(path)), force_(force) {
        std::error_code error;
        const fs::file_status there = fs::symlink_status(path_, error);
        if (fs::exists(there) && !force_) throw exists();
        if (fs::is_directory(path_, error)) throw OutputError(detail::text_of(path_) + " is a folder; name a file");
        if (fs::exists(there) && !fs::is_regular_file(there)) {
            const std::string what = fs::is_symlink(there) ? "a link" : "a device, pipe or socket";
            throw OutputError(detail::text_of(path_) + " is " + what +
                              ", and only regular files are replaced; name another output");
        }
        const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
        if (!fs::is_directory(folder, error)) {
            throw OutputError("the folder " + detail::text_of(folder) + " does not exist; create it first");
        }
        // Random, since process ids repeat across containers; cut, since the name may be as long as names can be.
        std::random_device random;
        const std::string own = detail::process_id() + "-" + std::to_string(random());
        part_ = folder / path_.filename().native().substr(0, 50);
        part_ += "." + own + ".part";
        const std::lock_guard<std::mutex> turn(detail::parts_turn);
        file_ = detail::create_new(part_);
        if (!file_) throw failure();
        detail::parts.insert(part_);
    }

    PartFile(const PartFile&) = delete;
    PartFile& operator=(const PartFile&) = delete;

    ~PartFile() {
        file_.reset();
        const std::lock_guard<std::mutex> turn(detail::parts_turn);
        std::error_code ignored;
        fs::remove(part_, ignored);
        detail::parts.erase(part_);
    }

    void write(const void* data, std::size_t size) {
        if (size && std::fwrite(data, 1, size, file_.get()) != size) throw failure();
    }

    /// Write at a byte offset instead of the end.
    void write_at(std::size_t offset, const std::string& content) {
        if (!detail::seek(file_.get(), offset)) throw failure();
        write(content.data(), content.size());
    }

    /// Make the file durable and give it the target's name.
    void commit() {
        if (!detail::make_durable(file_.get())) throw failure();
        if (std::fclose(file_.release()) != 0) throw failure();
        const std::lock_guard<std::mutex> turn(detail::parts_turn);
        std::error_code error;
        if (force_) {
            fs::rename(part_, path_, error);
        } else {
            fs::create_hard_link(part_, path_, error);  // fails where something has the name
            if (error == std::errc::file_exists) throw exists();
            if (error) {  // a file system without links: an empty file holds the name until it is replaced
                if (!detail::create_new(path_)) throw errno == EEXIST ? exists() : failure();
                fs::rename(part_, path_, error);
            }
        }
        if (error) throw OutputError(detail::text_of(path_) + " cannot be written: " + error.message());
    }

private:
    OutputError exists() const {
        return OutputError(detail::text_of(path_) + " exists already; give --force to replace it");
    }
    OutputError failure() const {
        return OutputError(detail::text_of(path_) + " cannot be written: " + std::strerror(errno));
    }

    fs::path path_;
    bool force_;
    fs::path part_;
    File file_;
};

}  // namespace vidtok
