# ONNX Runtime below ONNXRUNTIME_ROOT or where the system keeps it, in two components: Headers gives the target
# OnnxRuntimeCpp::Headers, Library OnnxRuntimeCpp::OnnxRuntimeCpp, which has the headers, too. ONNXRUNTIME_LIBRARY names
# another library than the one found, as the one inside the Python package, whose file name has a version.
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_cxx_api.h HINTS ${ONNXRUNTIME_ROOT}
          PATH_SUFFIXES include include/onnxruntime onnxruntime include/onnxruntime/core/session)
set(needed ONNXRUNTIME_INCLUDE_DIR)
if(Library IN_LIST OnnxRuntimeCpp_FIND_COMPONENTS)
  find_library(ONNXRUNTIME_LIBRARY onnxruntime HINTS ${ONNXRUNTIME_ROOT} PATH_SUFFIXES lib lib64)
  list(APPEND needed ONNXRUNTIME_LIBRARY)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntimeCpp REQUIRED_VARS ${needed})

if(OnnxRuntimeCpp_FOUND AND NOT TARGET OnnxRuntimeCpp::Headers)
  add_library(OnnxRuntimeCpp::Headers INTERFACE IMPORTED)
  set_target_properties(OnnxRuntimeCpp::Headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
if(OnnxRuntimeCpp_FOUND AND Library IN_LIST OnnxRuntimeCpp_FIND_COMPONENTS AND NOT TARGET OnnxRuntimeCpp::OnnxRuntimeCpp)
  add_library(OnnxRuntimeCpp::OnnxRuntimeCpp SHARED IMPORTED)
  set_target_properties(OnnxRuntimeCpp::OnnxRuntimeCpp PROPERTIES
    IMPORTED_LOCATION "${ONNXRUNTIME_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
