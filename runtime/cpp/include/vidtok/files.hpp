// Files read in pieces, and outputs that appear under their name only when complete. For POSIX systems.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "error.hpp"
#include "sha256.hpp"

namespace vidtok {

namespace fs = std::filesystem;

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

/// Whether a regular file is there, or a link to one.
inline bool is_file(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error);
}

/// A regular file opened for reading; throws FormatError with the system's reason.
inline File open_file(const fs::path& path) {
    if (!is_file(path)) throw FormatError("it is no file");
    File file(std::fopen(path.c_str(), "rb"));
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
    if (fseeko(file.get(), static_cast<off_t>(from), SEEK_SET) != 0) throw FormatError(std::strerror(errno));
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
        if (fs::is_directory(path_, error)) throw OutputError(path_.string() + " is a folder; name a file");
        if (fs::exists(there) && !fs::is_regular_file(there)) {
            const std::string what = fs::is_symlink(there) ? "a link" : "a device, pipe or socket";
            throw OutputError(path_.string() + " is " + what + ", and only regular files are replaced; name another output");
        }
        const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
        if (!fs::is_directory(folder, error)) {
            throw OutputError("the folder " + folder.string() + " does not exist; create it first");
        }
        // Random, since process ids repeat across containers; cut, since the name may be as long as names can be.
        std::random_device random;
        const std::string own = std::to_string(getpid()) + "-" + std::to_string(random());
        part_ = folder / (path_.filename().string().substr(0, 50) + "." + own + ".part");
        const std::lock_guard<std::mutex> turn(detail::parts_turn);
        file_.reset(std::fopen(part_.c_str(), "wbx"));
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
        if (fseeko(file_.get(), static_cast<off_t>(offset), SEEK_SET) != 0) throw failure();
        write(content.data(), content.size());
    }

    /// Make the file durable and give it the target's name.
    void commit() {
        if (std::fflush(file_.get()) != 0 || fsync(fileno(file_.get())) != 0) throw failure();
        if (std::fclose(file_.release()) != 0) throw failure();
        const std::lock_guard<std::mutex> turn(detail::parts_turn);
        std::error_code error;
        if (force_) {
            fs::rename(part_, path_, error);
        } else {
            fs::create_hard_link(part_, path_, error);  // fails where something has the name
            if (error == std::errc::file_exists) throw exists();
            if (error) {  // a file system without links: an empty file holds the name until it is replaced
                const File holder(std::fopen(path_.c_str(), "wbx"));
                if (!holder) throw errno == EEXIST ? exists() : failure();
                fs::rename(part_, path_, error);
            }
        }
        if (error) throw OutputError(path_.string() + " cannot be written: " + error.message());
    }

private:
    OutputError exists() const { return OutputError(path_.string() + " exists already; give --force to replace it"); }
    OutputError failure() const { return OutputError(path_.string() + " cannot be written: " + std::strerror(errno)); }

    fs::path path_;
    bool force_;
    fs::path part_;
    File file_;
};

}  // namespace vidtok
