# What `cmake --install` and `cpack` deliver: libraries, headers, the CMake package, pkg-config files, the licence.
#
# The C++ libraries are static, always: their interface is C++20 classes, for which there is no stable binary form to
# promise. BUILD_SHARED_LIBS decides about the C library only. That one is exported by itself, so that
# a C program that uses the shared library needs neither a C++ compiler nor OpenMP to find it.
set(install_wanted OFF)
if(PROJECT_IS_TOP_LEVEL AND NOT SKBUILD)  # a Python wheel holds the Python package and nothing else
  set(install_wanted ON)
endif()
option(SIGNSPLIT_INSTALL "Install the libraries, the headers and the CMake package" ${install_wanted})

if(NOT SIGNSPLIT_INSTALL)
  return()
endif()

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(SIGNSPLIT_CXX_TARGETS signsplit_core signsplit signsplit_sim signsplit_gpu signsplit_auto)
install(TARGETS ${SIGNSPLIT_CXX_TARGETS} EXPORT signsplitCxxTargets ARCHIVE FILE_SET HEADERS)
install(TARGETS signsplit_c EXPORT signsplitCTargets ARCHIVE LIBRARY RUNTIME FILE_SET HEADERS)

set(SIGNSPLIT_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/signsplit")
foreach(set IN ITEMS signsplitCxxTargets signsplitCTargets)
  install(EXPORT ${set} NAMESPACE signsplit:: DESTINATION "${SIGNSPLIT_PACKAGE_DIR}")
endforeach()

if(SIGNSPLIT_HAVE_CUDA)
  set(SIGNSPLIT_NEEDS_CUDA TRUE)
else()
  set(SIGNSPLIT_NEEDS_CUDA FALSE)
endif()
get_target_property(signsplit_c_type signsplit_c TYPE)
configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/signsplitConfig.cmake.in" "${PROJECT_BINARY_DIR}/package/signsplitConfig.cmake"
  INSTALL_DESTINATION "${SIGNSPLIT_PACKAGE_DIR}" NO_SET_AND_CHECK_MACRO)
# While the major version is 0, the minor one counts incompatible changes.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/signsplitConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/package/signsplitConfig.cmake" "${PROJECT_BINARY_DIR}/package/signsplitConfigVersion.cmake"
  DESTINATION "${SIGNSPLIT_PACKAGE_DIR}")

# pkg-config. Paths are relative to the .pc file, so that the tree can be installed with any --prefix, and moved.
set(SIGNSPLIT_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
set(SIGNSPLIT_PC_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
set(SIGNSPLIT_PC_INCLUDEDIR "${CMAKE_INSTALL_INCLUDEDIR}")
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_LIBDIR signsplit_libdir_is_absolute)
if(NOT signsplit_libdir_is_absolute)
  file(RELATIVE_PATH signsplit_up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" signsplit_up "${signsplit_up}")
  set(SIGNSPLIT_PC_PREFIX "\${pcfiledir}/${signsplit_up}")
  set(SIGNSPLIT_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_INCLUDEDIR signsplit_includedir_is_absolute)
if(NOT signsplit_includedir_is_absolute)
  set(SIGNSPLIT_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
list(TRANSFORM OpenMP_CXX_LIB_NAMES PREPEND "-l" OUTPUT_VARIABLE signsplit_openmp)
list(JOIN signsplit_openmp " " signsplit_openmp)
if(SIGNSPLIT_NEEDS_CUDA)
  string(APPEND signsplit_openmp " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
endif()
set(SIGNSPLIT_PC_CXX_LIBS "-lsignsplit_auto -lsignsplit -lsignsplit_sim -lsignsplit_gpu -lsignsplit_core ${signsplit_openmp}")
if(signsplit_c_type STREQUAL "SHARED_LIBRARY")
  set(SIGNSPLIT_PC_C_LIBS "-lsignsplit_c")
  set(SIGNSPLIT_PC_C_CFLAGS "")
else()
  set(SIGNSPLIT_PC_C_LIBS "-lsignsplit_c ${SIGNSPLIT_PC_CXX_LIBS}")
  foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    if(library MATCHES "^(stdc\\+\\+|c\\+\\+|m)$")
      string(APPEND SIGNSPLIT_PC_C_LIBS " -l${library}")
    endif()
  endforeach()
  set(SIGNSPLIT_PC_C_CFLAGS "-DSIGNSPLIT_C_STATIC")
endif()
foreach(module IN ITEMS signsplit signsplit-c)
  configure_file("${CMAKE_CURRENT_LIST_DIR}/${module}.pc.in" "${PROJECT_BINARY_DIR}/package/${module}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/package/${module}.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endforeach()

foreach(file IN ITEMS LICENSE README.md CHANGELOG.md)
  if(EXISTS "${PROJECT_SOURCE_DIR}/${file}")
    install(FILES "${PROJECT_SOURCE_DIR}/${file}" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
  endif()
endforeach()

# `cpack` (or `cpack -G TGZ`) in the build directory.
if(PROJECT_IS_TOP_LEVEL)
  set(CPACK_PACKAGE_VENDOR "The signsplit authors")
  set(CPACK_PACKAGE_CONTACT "The signsplit authors")
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
  set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
  set(CPACK_GENERATOR DEB)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_VERBATIM_VARIABLES ON)
  set(CPACK_PACKAGING_INSTALL_PREFIX "/usr")
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS "pkg-config, cmake")
  include(CPack)
endif()
