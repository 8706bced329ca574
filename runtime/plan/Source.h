// The `from` tree of a state: which Hugging Face tensors it is made of, and where each one lies in
// it. The importer checks a checkpoint's headers against it; the runtime loads and exports files by
// it, with no code per model family.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace switchyard {

struct Source {
  /// Leaf: the tensor `name`. Concat: the children joined along dimension 0. Stack: its one child
  /// once for each value of `index` in [begin, end), along a new dimension 0; "{index}" in the
  /// names of its leaves stands for the value.
  enum class Kind : uint8_t { Leaf, Concat, Stack };

  Kind kind = Kind::Leaf;
  std::string name;
  std::string index;
  int64_t begin = 0;
  int64_t end = 0;
  std::vector<Source> children;
  /// Concat: the rows (extent of dimension 0) of each child. Empty: they are asked for (LeafRows),
  /// else equal.
  std::vector<int64_t> sizes;
};

Source leafSource(std::string name);
Source concatSource(std::vector<Source> children, std::vector<int64_t> sizes = {});
Source stackSource(std::string index, int64_t begin, int64_t end, Source child);

/// One Hugging Face tensor: elements [begin, end) of the state, row-major, are all of its elements
/// in order.
struct SourceSlice {
  std::string name;
  std::vector<int64_t> shape;
  int64_t begin = 0;
  int64_t end = 0;
};

/// What is known of a tensor's dimension 0, for a Concat that does not say its sizes.
using LeafRows = std::function<std::optional<int64_t>(const std::string &name)>;

/// No tree is deeper, and no state has more tensors or elements.
inline constexpr int kMaxSourceDepth = 8;
inline constexpr int64_t kMaxSourceSlices = int64_t{1} << 17;
inline constexpr int64_t kMaxSourceElements = int64_t{1} << 48;

/// The tensors of a state of `stateShape`, in order: they cover it exactly, without gap or overlap.
/// Fails with InvalidInput, naming what is wrong: a tree that does not fit the shape, an index that
/// is unbound, unused or bound twice, a tensor named twice, a cap exceeded. The tree is not
/// trusted.
Result<std::vector<SourceSlice>> resolve(const Source &source, std::span<const int64_t> stateShape,
                                         const LeafRows &leafRows = {});

/// A shape as messages show it: "[8, 4096]".
std::string shapeText(std::span<const int64_t> shape);

} // namespace switchyard
