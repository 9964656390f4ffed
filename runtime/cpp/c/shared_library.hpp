// Libraries that are loaded at run time; none is ever unloaded, since engines leave threads behind.
#pragma once

#include <vidtok/files.hpp>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace vidtok::c {

class SharedLibrary {
public:
    /// By a path, or by a name that the system looks for; throws ProviderError.
    static SharedLibrary open(const fs::path& file) {
        const std::string name = detail::text_of(file);
#ifdef _WIN32
        // With its own folder among those where its dependencies are looked for.
        const DWORD how = file.is_absolute() ? LOAD_WITH_ALTERED_SEARCH_PATH : 0;
        const HMODULE handle = LoadLibraryExW(file.c_str(), nullptr, how);
        const std::string reason = "Windows error " + std::to_string(GetLastError());
#else
        void* const handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
        const char* const text = handle == nullptr ? dlerror() : nullptr;
        const std::string reason = text != nullptr ? text : "";
#endif
        if (handle == nullptr) throw ProviderError(name + " cannot be loaded: " + reason);
        return SharedLibrary(handle, name);
    }

    /// A function that it exports; throws ProviderError.
    template <class Function>
    Function* function(const char* name) const {
#ifdef _WIN32
        void* const found = reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_), name));
#else
        void* const found = dlsym(handle_, name);
#endif
        if (found == nullptr) throw ProviderError(name_ + " is another library or of another version: it has no " + name);
        return reinterpret_cast<Function*>(found);
    }

private:
    SharedLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}

    void* handle_;
    std::string name_;
};

/// The folder of this very library, or of the program that it is linked into.
inline fs::path own_folder() {
    static const char inside = 0;
#ifdef _WIN32
    HMODULE self = nullptr;
    wchar_t path[32768];
    constexpr DWORD how = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    GetModuleHandleExW(how, reinterpret_cast<const wchar_t*>(&inside), &self);
    const DWORD length = GetModuleFileNameW(self, path, 32768);
    return fs::path(std::wstring(path, length)).parent_path();
#else
    Dl_info self{};
    std::error_code error;
    if (dladdr(&inside, &self) == 0 || self.dli_fname == nullptr) return {};
    const fs::path file = fs::canonical(self.dli_fname, error);
    return error ? fs::path() : file.parent_path();
#endif
}

}  // namespace vidtok::c
