#include "passes/MeshOption.h"

using namespace mlir;

namespace switchyard::passes {

std::optional<std::string> parseMesh(StringRef text, MeshSizes &sizes) {
  sizes.fill(0);
  int64_t ranks = 1;
  SmallVector<StringRef> entries;
  text.split(entries, ',');
  for (StringRef entry : entries) {
    auto [name, number] = entry.split('=');
    std::optional<dist::Axis> axis = dist::symbolizeAxis(name);
    int64_t size = 0;
    if (!axis || number.getAsInteger(10, size) || size < 1 || sizes[static_cast<size_t>(*axis)])
      return "found \"" + text.str() +
             "\", expected the sizes, at least 1, of some of the axes dp, fsdp and ep, each once, "
             "as fsdp=2,ep=4";
    sizes[static_cast<size_t>(*axis)] = size;
    if (__builtin_mul_overflow(ranks, size, &ranks) || ranks > dist::kMaxRanks)
      return "found \"" + text.str() + "\", which is more than " + std::to_string(dist::kMaxRanks) +
             " ranks; expected a smaller mesh";
  }
  std::replace(sizes.begin(), sizes.end(), int64_t{0}, int64_t{1});
  return std::nullopt;
}

dist::MeshAttr meshOf(const MeshSizes &sizes, MLIRContext *context) {
  SmallVector<dist::Axis> axes;
  SmallVector<int64_t> kept;
  for (auto [index, size] : llvm::enumerate(sizes)) {
    if (size == 1)
      continue;
    axes.push_back(static_cast<dist::Axis>(index));
    kept.push_back(size);
  }
  return axes.empty() ? dist::MeshAttr() : dist::MeshAttr::get(context, axes, kept);
}

} // namespace switchyard::passes
