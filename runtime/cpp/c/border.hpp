// Between C++ and C: every exception becomes a status and a line of text.
#pragma once

#include <vidtok.h>
#include <vidtok/error.hpp>

#include <new>
#include <string>

namespace vidtok::c {

/// Keeps the text for vidtok_error() of this thread; returns the status.
vidtok_status failed(vidtok_status status, const char* what) noexcept;

/// What became of an action.
template <class Action>
vidtok_status guarded(Action action) noexcept {
    try {
        action();
        return VIDTOK_OK;
    } catch (const BundleError& error) {
        return failed(VIDTOK_BUNDLE_ERROR, error.what());
    } catch (const TokenFileError& error) {
        return failed(VIDTOK_TOKEN_FILE_ERROR, error.what());
    } catch (const MismatchError& error) {
        return failed(VIDTOK_MISMATCH_ERROR, error.what());
    } catch (const ProviderError& error) {
        return failed(VIDTOK_PROVIDER_ERROR, error.what());
    } catch (const InputError& error) {
        return failed(VIDTOK_INPUT_ERROR, error.what());
    } catch (const OutputError& error) {
        return failed(VIDTOK_OUTPUT_ERROR, error.what());
    } catch (const std::bad_alloc&) {
        return failed(VIDTOK_MEMORY_ERROR, "there is not enough memory; set max_memory, or make frames smaller");
    } catch (const std::length_error&) {
        return failed(VIDTOK_MEMORY_ERROR, "there is not enough memory; set max_memory, or make frames smaller");
    } catch (const std::exception& error) {
        return failed(VIDTOK_INTERNAL_ERROR, error.what());
    } catch (...) {
        return failed(VIDTOK_INTERNAL_ERROR, "an engine failed and gave no reason");
    }
}

/// Throw InputError where an argument is NULL.
inline void need(const void* argument, const char* name) {
    if (argument == nullptr) throw InputError(std::string(name) + " is NULL");
}

}  // namespace vidtok::c
