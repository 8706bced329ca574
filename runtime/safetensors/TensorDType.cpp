#include "runtime/safetensors/TensorDType.h"

#include <iterator>

namespace switchyard {

namespace {

struct Row {
  std::string_view name;
  int64_t bytes;
};

// In the enumerators' order.
constexpr Row kRows[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                         {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                         {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
static_assert(std::size(kRows) == static_cast<size_t>(TensorDType::U64) + 1);

} // namespace

std::string_view name(TensorDType dtype) {
  return kRows[static_cast<size_t>(dtype)].name;
}

int64_t byteSize(TensorDType dtype) {
  return kRows[static_cast<size_t>(dtype)].bytes;
}

std::optional<TensorDType> tensorDTypeFromName(std::string_view text) {
  for (size_t i = 0; i < std::size(kRows); ++i)
    if (kRows[i].name == text)
      return static_cast<TensorDType>(i);
  return std::nullopt;
}

} // namespace switchyard
