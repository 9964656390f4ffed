// What POSIX systems and Windows do differently: paths as text, files that are made, placed and kept, the environment.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <share.h>
#include <sys/stat.h>
#else
#include <unistd.h>
#endif

namespace vidtok {

namespace fs = std::filesystem;

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

namespace detail {

/// A path out of UTF-8, whatever the system's own text is.
inline fs::path path_of(const std::string& utf8) {
#ifdef _WIN32
    return fs::u8path(utf8);
#else
    return fs::path(utf8);
#endif
}

/// A path as messages show it, in UTF-8.
inline std::string text_of(const fs::path& path) {
#ifdef _WIN32
    const auto text = path.u8string();
    return {text.begin(), text.end()};
#else
    return path.string();
#endif
}

/// Opens a file that is there for reading; null, with errno, where the system does not.
inline File open_to_read(const fs::path& path) {
#ifdef _WIN32
    return File(_wfopen(path.c_str(), L"rb"));
#else
    return File(std::fopen(path.c_str(), "rb"));
#endif
}

/// Makes a file that is not there yet; null, with errno, where something has the name.
inline File create_new(const fs::path& path) {
#ifdef _WIN32
    const int number = _wsopen(path.c_str(), _O_CREAT | _O_EXCL | _O_WRONLY | _O_BINARY, _SH_DENYNO, _S_IREAD | _S_IWRITE);
    return File(number < 0 ? nullptr : _fdopen(number, "wb"));
#else
    return File(std::fopen(path.c_str(), "wbx"));
#endif
}

/// Whether the file's position is now so many bytes behind its start.
inline bool seek(std::FILE* file, std::uint64_t offset) {
#ifdef _WIN32
    return _fseeki64(file, static_cast<__int64>(offset), SEEK_SET) == 0;
#else
    return fseeko(file, static_cast<off_t>(offset), SEEK_SET) == 0;
#endif
}

/// Whether all that was written is on the disk.
inline bool make_durable(std::FILE* file) {
    if (std::fflush(file) != 0) return false;
#ifdef _WIN32
    return _commit(_fileno(file)) == 0;
#else
    return fsync(fileno(file)) == 0;
#endif
}

inline std::string process_id() {
#ifdef _WIN32
    return std::to_string(_getpid());
#else
    return std::to_string(getpid());
#endif
}

/// The path in a variable of the environment; empty where it is not set.
inline fs::path path_in_environment(const std::string& name) {
#ifdef _WIN32
    const wchar_t* const path = _wgetenv(fs::u8path(name).c_str());  // the other has text of the code page
#else
    const char* const path = std::getenv(name.c_str());
#endif
    return path == nullptr ? fs::path() : fs::path(path);
}

/// Set a variable of the environment that is not set.
inline void set_if_absent(const char* name, const char* value) {
    if (std::getenv(name) != nullptr) return;
#ifdef _WIN32
    _putenv_s(name, value);
#else
    setenv(name, value, 0);
#endif
}

}  // namespace detail

}  // namespace vidtok
