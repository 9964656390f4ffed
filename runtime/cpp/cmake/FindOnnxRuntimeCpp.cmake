# ONNX Runtime's C++ headers and its shared library, below ONNXRUNTIME_ROOT or where the system keeps them.
# Gives the target OnnxRuntimeCpp::OnnxRuntimeCpp. ONNXRUNTIME_LIBRARY names another library than the one found, as the
# one inside the Python package, whose file name has a version.
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_cxx_api.h HINTS ${ONNXRUNTIME_ROOT}
          PATH_SUFFIXES include include/onnxruntime onnxruntime include/onnxruntime/core/session)
find_library(ONNXRUNTIME_LIBRARY onnxruntime HINTS ${ONNXRUNTIME_ROOT} PATH_SUFFIXES lib lib64)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntimeCpp REQUIRED_VARS ONNXRUNTIME_INCLUDE_DIR ONNXRUNTIME_LIBRARY)

if(OnnxRuntimeCpp_FOUND AND NOT TARGET OnnxRuntimeCpp::OnnxRuntimeCpp)
  add_library(OnnxRuntimeCpp::OnnxRuntimeCpp SHARED IMPORTED)
  set_target_properties(OnnxRuntimeCpp::OnnxRuntimeCpp PROPERTIES
    IMPORTED_LOCATION "${ONNXRUNTIME_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
