// The dtypes of a safetensors file (https://github.com/huggingface/safetensors, README "Format").
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace switchyard {

enum class TensorDType : uint8_t {
  Bool,
  U8,
  I8,
  F8E5M2,
  F8E4M3,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  F64,
  I64,
  U64,
};

/// As in the header: "BF16".
std::string_view name(TensorDType dtype);

/// The dtype that the header calls `text`, or nothing.
std::optional<TensorDType> tensorDTypeFromName(std::string_view text);

int64_t byteSize(TensorDType dtype);

} // namespace switchyard
