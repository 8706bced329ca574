# What differs between the packages: cpack reads this once for each of its generators.

if(CPACK_GENERATOR STREQUAL "TGZ")
  # The archives unpack into one folder, so that moe-run finds moe-compile.
  set(CPACK_COMPONENT_INCLUDE_TOPLEVEL_DIRECTORY ON)
endif()
