// Finds the instruction that first makes a value that is infinite or NaN.
//
//   NonFiniteSearch search(executor);
//   executor.run(...); ...
//   search.found();
//
// While it lives, programs run one instruction at a time, and the host reads what each of them has
// made: all of its outputs' elements at the extents of the binding, which kernels and collectives
// write whole, rows without a token included. Slow.
#pragma once

#include "runtime/core/Floats.h"
#include "runtime/executor/Executor.h"

#include <optional>
#include <string>
#include <vector>

namespace switchyard {

/// Where one was made. Ranks run the same programs, so places can be compared between them.
struct NonFinitePlace {
  int64_t run = 0;         // of a program, from 0
  int64_t instruction = 0; // or the repeat that it is in
  int64_t round = 0;       // of that, else 0
  int64_t inner = 0;       // the instruction, again

  auto operator<=>(const NonFinitePlace &) const = default;
};

struct NonFinite {
  NonFinitePlace place;
  /// An operand was not finite before; else the instruction made it of finite ones.
  bool isInherited = false;
  std::string where; // "program train_step, instruction 12 (linear)"
  /// Lines for people: the instruction, how many values of which output, its operands that were not
  /// finite before, and the parameter that a launch used last, which tells the layer.
  std::vector<std::string> details;
};

/// "3 of 8192 values not finite, the first [1, 7] = nan"; `shape` is theirs. Of a scalar, "nan".
std::string describe(const NonFiniteValues &found, std::span<const int64_t> shape);

class NonFiniteSearch final : public Watch {
public:
  /// Watches `executor`, which outlives it.
  explicit NonFiniteSearch(Executor &executor);
  NonFiniteSearch(const NonFiniteSearch &) = delete;
  ~NonFiniteSearch() override;

  /// In the runs since this was made.
  const std::optional<NonFinite> &found() const { return found_; }

  Status before(const Binding &binding, size_t instruction) override;
  Status after(const Binding &binding, size_t instruction) override;

private:
  void follow(const Program &program, size_t instruction);
  void noteParameter(const Program &program, size_t instruction);
  Result<NonFiniteValues> look(const Binding &binding, uint32_t buffer);

  Executor &executor_;
  NonFinitePlace place_{.run = -1};
  std::vector<int32_t> gathered_;      // by buffer: the state that it is a gathered copy of, or -1
  int32_t parameter_ = -1;             // the state that was used last
  std::vector<std::string> inherited_; // of the instruction at hand: operands that are not finite
  std::optional<NonFinite> found_;
  std::vector<std::byte> bytes_;
};

} // namespace switchyard
