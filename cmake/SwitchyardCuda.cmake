# The CUDA backend: MOE_CUDA=ON needs CUDA's compiler and cuBLASLt, OFF builds without, AUTO (the
# default) builds it where both are found. Sets MOE_HAS_CUDA. The sanitizer's build goes without:
# AddressSanitizer and the CUDA driver want the same addresses.

set(MOE_CUDA AUTO CACHE STRING "Build the CUDA backend: ON, OFF, or AUTO (where nvcc is found)")
set_property(CACHE MOE_CUDA PROPERTY STRINGS ON OFF AUTO)
if(NOT MOE_CUDA MATCHES "^(ON|OFF|AUTO)$")
  message(FATAL_ERROR "MOE_CUDA is '${MOE_CUDA}'; expected ON, OFF or AUTO")
endif()
# Ampere, Hopper with its own instructions, and PTX that later devices compile for themselves.
set(MOE_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "GPU architectures to compile for")

set(MOE_HAS_CUDA OFF)
if(MOE_CUDA STREQUAL "ON" OR (MOE_CUDA STREQUAL "AUTO" AND NOT MOE_SANITIZE))
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES ${MOE_CUDA_ARCHITECTURES})
  endif()
  check_language(CUDA)
  find_package(CUDAToolkit 12.4)
  if(CMAKE_CUDA_COMPILER AND TARGET CUDA::cublasLt)
    enable_language(CUDA)
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake 3.25 does not know it
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(MOE_HAS_CUDA ON)
    if(MOE_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${MOE_CCACHE})
    endif()
  elseif(MOE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MOE_CUDA=ON needs nvcc and cuBLASLt of CUDA 12.4 or newer; install the CUDA "
                        "toolkit or name it by CUDAToolkit_ROOT, or configure with MOE_CUDA=OFF")
  endif()
endif()
message(STATUS "CUDA backend: ${MOE_HAS_CUDA}")
