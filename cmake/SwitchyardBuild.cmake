# Flags and helper functions that every target of the project uses.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(MOE_CCACHE ccache)
if(MOE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MOE_CCACHE})
endif()
find_package(Threads REQUIRED)

if(MOE_SANITIZE STREQUAL "THREAD")
  # ThreadSanitizer does not know fences, which GCC would warn of.
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -O1 -g1
                      "$<$<CXX_COMPILER_ID:GNU>:-Wno-tsan;-Wno-maybe-uninitialized>")
  add_link_options(-fsanitize=thread)
elseif(MOE_SANITIZE)
  # Line numbers are all that a report needs; the rest of -g doubles the time of a build. GCC's
  # -Wmaybe-uninitialized does not see through what the sanitizers insert.
  # vptr checks need the RTTI that MLIR, and so the compiler's programs, are built without.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-sanitize=vptr
                      -fno-omit-frame-pointer -O1 -g1
                      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=address,undefined)
endif()

# Warnings and include roots: headers are included by their path from the repository's root. GCC
# 12's -Wrestrict fires on string concatenation (GCC bug 105651).
function(switchyard_flags target)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror -Werror=all-warnings>)
endfunction()

# switchyard_library(name SRCS a.cpp ... LINK libraries ...)
function(switchyard_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  switchyard_flags(${name})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} Threads::Threads)
endfunction()

# switchyard_header_library(name LINK libraries ...)
function(switchyard_header_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name} INTERFACE)
  target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
  target_link_libraries(${name} INTERFACE ${ARG_LINK})
endfunction()

# switchyard_test(name SRCS a.cpp ... LINK libraries ...): a GoogleTest program that CTest runs.
function(switchyard_test name)
  cmake_parse_arguments(ARG "" "" "SRCS;LINK" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  switchyard_flags(${name})
  target_compile_definitions(${name} PRIVATE
    SWITCHYARD_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SWITCHYARD_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/test)
  add_test(NAME ${name} COMMAND ${name})
  if(MOE_SANITIZE STREQUAL "THREAD")
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "TSAN_OPTIONS=suppressions='${PROJECT_SOURCE_DIR}/cmake/thread-sanitizer.supp'")
  endif()
endfunction()
