// What can go wrong at run time. Every text says what was expected, what was found and what to do.
#pragma once

#include <stdexcept>

namespace vidtok {

/// Base of every exception that this library throws on purpose.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A bundle that is missing, incomplete, altered, or that its manifest does not describe.
struct BundleError : Error {
    using Error::Error;
};

/// A token file that is truncated, altered or not a token file.
struct TokenFileError : Error {
    using Error::Error;
};

/// Tokens that belong to another model or to other weights than the bundle.
struct MismatchError : Error {
    using Error::Error;
};

/// An inference engine that is not built in, or that fails.
struct ProviderError : Error {
    using Error::Error;
};

/// An array, size or option that does not fit.
struct InputError : Error {
    using Error::Error;
};

/// A target that exists already or cannot be written.
struct OutputError : Error {
    using Error::Error;
};

/// Text or bytes of another form than their format has; whoever knows the file turns it into one of the others.
struct FormatError : Error {
    using Error::Error;
};

}  // namespace vidtok
