// The table of all kernel signatures, and the match of a launch against one of them.
#pragma once

#include "kernels/signatures/Signature.h"

#include <optional>
#include <string>
#include <vector>

namespace switchyard::kernels {

/// No operand has more dimensions.
inline constexpr int kMaxRank = 4;

/// No operand has more elements and no rank more threads; within both, no workspace bound
/// overflows.
inline constexpr int64_t kMaxElements = int64_t{1} << 48;
inline constexpr int32_t kMaxThreads = 4096;

/// All signatures, ordered by name.
std::span<const Signature *const> allSignatures();

/// The signature called `name`, or null.
const Signature *findSignature(std::string_view name);

/// An extent `scale * symbol + offset`; symbol -1 means just `offset`.
struct Extent {
  int64_t scale = 0;
  int32_t symbol = -1;
  int64_t offset = 0;
  bool operator==(const Extent &) const = default;
};

/// The type of a launch's operand.
struct OperandType {
  DType dtype = DType::F32;
  std::vector<Extent> shape;
};

/// The value of an attribute: `integer` for integers, flags and choices, `real` for floats.
struct AttributeValue {
  int64_t integer = 0;
  double real = 0;
};

/// Checks a launch of `signature` against it: the number of operands, dtypes, shapes, the
/// attributes (in the signature's order) and their ranges. Returns the message of the first fault,
/// naming the operand or attribute, or nothing if the launch is well formed.
std::optional<std::string> matchLaunch(const Signature &signature,
                                       std::span<const OperandType> operands,
                                       std::span<const AttributeValue> attributes);

/// The workspace bound in bytes of a launch that matches, with the plan's symbols at
/// `symbolBounds` (symbol s of an Extent is symbolBounds[s]). INT64_MAX, which no buffer has, where
/// a symbol has no bound, an operand would exceed kMaxElements or `target.threads` is not from 1 to
/// kMaxThreads.
int64_t workspaceBytes(const Signature &signature, std::span<const OperandType> operands,
                       std::span<const AttributeValue> attributes,
                       std::span<const int64_t> symbolBounds, Target target);

/// Checks a signature itself: shapes that parse, every symbol bound by an extent that is just that
/// symbol, at most one repeated operand, overlays of In operands, ranges that are not empty.
/// Returns the first fault. A test runs it over the whole table.
std::optional<std::string> checkSignature(const Signature &signature);

/// The index of the OperandSpec that the launch's operand `index` stands for, with `count` operands
/// in all.
int specOfOperand(const Signature &signature, int index, int count);

/// What messages call the launch's operand `index`: "w", or "statistics[2]" where it repeats.
std::string operandName(const Signature &signature, int index, int count);

/// An extent as text, such as "2*symbol0 + 1".
std::string toString(const Extent &extent);

} // namespace switchyard::kernels
