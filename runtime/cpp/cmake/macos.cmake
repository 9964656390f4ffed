# macOS for `target`, by zig with its headers and libraries, as the Python package ziglang has it; it has to be in PATH.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_C_COMPILER zig cc -target ${target})
set(CMAKE_CXX_COMPILER zig c++ -target ${target})
# It finds what it needs on its own.
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_OSX_ARCHITECTURES "")
