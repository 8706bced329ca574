// Builds safetensors files, right and wrong ones.
#pragma once

#include "test/runtime/core/TestFolder.h"

#include <cstdint>

namespace switchyard {

/// A file of that header and data, with the header's length in front.
inline std::string safetensorsText(const std::string &header, const std::string &data) {
  std::string text(8, '\0');
  for (int i = 0; i < 8; ++i)
    text[i] = static_cast<char>(uint64_t{header.size()} >> (8 * i));
  return text + header + data;
}

} // namespace switchyard
