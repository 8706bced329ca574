// Counts the process's heap allocations, for tests that demand none.
//
// Linking this replaces malloc and its relatives by glibc's own, counted; shared libraries
// are counted too. Under a sanitizer, which owns malloc, nothing is counted.
#pragma once

#include <cstdint>

namespace switchyard::testing {

/// Whether allocations are counted in this build.
bool countsHeapAllocations();

/// Allocations of all threads since the program's start.
int64_t heapAllocations();

} // namespace switchyard::testing
