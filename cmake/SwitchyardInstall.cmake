# What `cmake --install` and `cpack` make: two components, and of each a Debian package and an
# archive. `runtime` runs plans and needs no MLIR; `compiler` makes them. moe-run finds moe-compile
# beside itself, so both go to one bin/.

include(GNUInstallDirs)

# switchyard_install(component PROGRAMS targets ... WITHOUT pages ... PARTS packages ...)
# WITHOUT: patterns of pages in docs/ that don't concern it. PARTS: Debian's development packages whose
# headers the programs contain; their licences go along.
function(switchyard_install component)
  cmake_parse_arguments(ARG "" "" "PROGRAMS;WITHOUT;PARTS" ${ARGN})
  set(docs ${CMAKE_INSTALL_DATADIR}/doc/switchyard-${component})
  # MLIR and CUDA lie outside the linker's own folders; where they were found goes into the program.
  set_target_properties(${ARG_PROGRAMS} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS ${ARG_PROGRAMS} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT ${component})
  list(TRANSFORM ARG_WITHOUT REPLACE "(.+)" "PATTERN;\\1;EXCLUDE")
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION ${docs} COMPONENT ${component}
          FILES_MATCHING PATTERN *.md ${ARG_WITHOUT})
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${docs} RENAME copyright COMPONENT ${component})
  foreach(part IN LISTS ARG_PARTS)
    install(FILES /usr/share/doc/${part}/copyright DESTINATION ${docs}/licences RENAME ${part}
            COMPONENT ${component} OPTIONAL)
  endforeach()
endfunction()

switchyard_install(runtime
  PROGRAMS moe-bench moe-plan moe-run
  WITHOUT adding-*
  PARTS libcli11-dev libflatbuffers-dev libfmt-dev libicu-dev libspdlog-dev)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples DESTINATION ${CMAKE_INSTALL_DATADIR}/switchyard
        COMPONENT runtime PATTERN __pycache__ EXCLUDE)
set(CPACK_COMPONENTS_ALL runtime)
if(MOE_BUILD_COMPILER)
  switchyard_install(compiler
    PROGRAMS moe-compile moe-opt moe-translate
    PARTS libcli11-dev libflatbuffers-dev libfmt-dev libspdlog-dev)
  list(APPEND CPACK_COMPONENTS_ALL compiler)
endif()

set(CPACK_GENERATOR DEB TGZ)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_PACKAGE_NAME switchyard)
set(CPACK_PACKAGE_VENDOR Switchyard)
set(CPACK_PACKAGE_CONTACT "Switchyard maintainers <maintainers@switchyard.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGE_CHECKSUM SHA256)
set(CPACK_STRIP_FILES ON)
string(TOLOWER ${CMAKE_SYSTEM_NAME} system)
set(CPACK_SYSTEM_NAME ${system}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/cmake/PackageGenerators.cmake)
string(CONCAT CPACK_COMPONENT_RUNTIME_DESCRIPTION
       "The runtime: moe-run trains with plans, moe-plan says what a plan does,\n"
       "moe-bench how long it takes. With a toy model to try them on.\n"
       "Plans are made by the package switchyard-compiler.")
string(CONCAT CPACK_COMPONENT_COMPILER_DESCRIPTION
       "The compiler: moe-compile makes plans of Hugging Face checkpoint folders,\n"
       "moe-opt and moe-translate show its stages.\n"
       "Plans are run by the package switchyard-runtime.")

set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME switchyard-runtime)
set(CPACK_DEBIAN_COMPILER_PACKAGE_NAME switchyard-compiler)
set(exact_version "(= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_RECOMMENDS "switchyard-compiler ${exact_version}")
set(CPACK_DEBIAN_COMPILER_PACKAGE_SUGGESTS "switchyard-runtime ${exact_version}")
if(SWITCHYARD_HAS_MPI)
  set(CPACK_DEBIAN_RUNTIME_PACKAGE_SUGGESTS openmpi-bin)
endif()
if(MOE_HAS_CUDA)
  # shlibdeps knows nothing of a CUDA that was installed without packages.
  string(REPLACE . - cuda "${CUDAToolkit_VERSION_MAJOR}-${CUDAToolkit_VERSION_MINOR}")
  set(CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS libcublas-${cuda})
endif()
if(SWITCHYARD_HAS_NCCL)
  string(APPEND CPACK_DEBIAN_RUNTIME_PACKAGE_RECOMMENDS ", libnccl2")
endif()
include(CPack)
