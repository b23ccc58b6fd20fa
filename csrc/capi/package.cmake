# The shared library as others find it: what it exports, its headers, a CMake package and a
# pkg-config file, all inside of the Python package.
set(package "${CMAKE_CURRENT_BINARY_DIR}/package")
configure_file(csrc/capi/fastconv_version.h.in "${package}/fastconv_version.h" @ONLY)
target_include_directories(fastconv PUBLIC $<BUILD_INTERFACE:${package}>
                                           $<INSTALL_INTERFACE:fastconv/include>)
if(APPLE)
  # One file: its versions are inside of it.
  set_target_properties(fastconv PROPERTIES INSTALL_NAME_DIR "@rpath"
                                            MACHO_COMPATIBILITY_VERSION ${PROJECT_VERSION_MAJOR}
                                            MACHO_CURRENT_VERSION ${PROJECT_VERSION})
else()
  set_target_properties(fastconv PROPERTIES SOVERSION ${PROJECT_VERSION_MAJOR})
  set(map "${CMAKE_CURRENT_SOURCE_DIR}/csrc/capi/exports.map")
  set_target_properties(fastconv PROPERTIES LINK_DEPENDS "${map}")
  target_link_options(fastconv PRIVATE "LINKER:--version-script=${map}" "LINKER:--no-undefined")
  # A wheel holds no symbolic links: what -lfastconv finds is a linker script that names the file.
  file(WRITE "${package}/libfastconv.so" "INPUT(libfastconv.so.${PROJECT_VERSION_MAJOR})\n")
  install(FILES "${package}/libfastconv.so" DESTINATION fastconv/lib)
endif()

# The loader finds the library in `directory`, seen from the installed `target`.
function(fastconv_find_beside target directory)
  if(APPLE)
    set(origin "@loader_path")
  else()
    set(origin "$ORIGIN")
  endif()
  set_target_properties(${target} PROPERTIES BUILD_RPATH "${origin}/${directory}"
                                             INSTALL_RPATH "${origin}/${directory}")
endfunction()

include(CMakePackageConfigHelpers)
set(cmake_dir fastconv/lib/cmake/fastconv)
write_basic_package_version_file("${package}/fastconvConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
configure_file(csrc/capi/fastconv.pc.in "${package}/fastconv.pc" @ONLY)
install(TARGETS fastconv EXPORT fastconvTargets LIBRARY DESTINATION fastconv/lib NAMELINK_SKIP)
install(EXPORT fastconvTargets NAMESPACE fastconv:: DESTINATION ${cmake_dir})
install(FILES csrc/capi/fastconvConfig.cmake "${package}/fastconvConfigVersion.cmake"
        DESTINATION ${cmake_dir})
install(FILES csrc/capi/fastconv.h csrc/capi/fastconv.hpp csrc/capi/fastconv_capsule.h
              "${package}/fastconv_version.h" DESTINATION fastconv/include)
install(FILES "${package}/fastconv.pc" DESTINATION fastconv/lib/pkgconfig)
