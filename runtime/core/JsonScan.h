// Finds where a text stops being JSON. simdjson says only that it does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

/// `message` is empty if no fault was found; lines and columns (in bytes) count from 1.
struct JsonFault {
  std::string message;
  uint64_t line = 0;
  uint64_t column = 0;
};

/// The first fault of `text`, with arrays and objects at most `maxDepth` deep.
JsonFault findJsonFault(std::string_view text, int maxDepth);

} // namespace switchyard
