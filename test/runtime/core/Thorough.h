// How many cases a test tries that could try any number of them.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace switchyard {

/// `usual`, or `thorough` where scripts/test --thorough runs it.
inline int64_t casesOf(int64_t usual, int64_t thorough) {
  return std::getenv("SWITCHYARD_THOROUGH") ? thorough : usual;
}

} // namespace switchyard
