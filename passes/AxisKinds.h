// What the copies of a value on the ranks along one axis of the mesh have to do with each other:
// the lattice of verify-gradient-reduction, after the types of JAX's shard_map (varying manual
// axes).
//
//                     |  y on rank r                         |  comes from
//     Zero            |  zero                                |  a constant 0, a gradient before a
//     pass Held            |  the same, copies of one state       |  moe.read of a state not
//     divided there Same            |  the same                            |  replicate,
//     all_gather, all_reduce Own             |  its own: a term of a sum            |  inputs; what
//     tokens or parts give Slice           |  its part, cut along dimension 0     |  moe.read of
//     such a state, token_exchange Flat            |  its part, cut flat                  |
//     moe.read of such a state, reduce_scatter Share           |  1/n of one value: a term of a sum
//     |  moe.scale by 1/n of what is the same
//
// Zero, Held and Same are facts about values: ops are functions, so equal operands make equal
// results. Held is Same of which the gradient is owed to one state by all ranks. Own and Share are
// terms, of which sums over ranks are made; the others may not be summed: n equal terms are one
// term counted n times, and parts are of different things.
#pragma once

#include "dialects/dist/Dist.h"

#include <array>

namespace switchyard::passes {

enum class AxisKind : uint8_t { Zero, Held, Same, Own, Slice, Flat, Share };
inline constexpr size_t kNumAxisKinds = 7;

/// "the same on all ranks" and so on, to follow "is".
llvm::StringRef describe(AxisKind kind);

inline bool isAlike(AxisKind kind) {
  return kind == AxisKind::Held || kind == AxisKind::Same;
}
inline bool isPart(AxisKind kind) {
  return kind == AxisKind::Slice || kind == AxisKind::Flat;
}
inline bool isTerm(AxisKind kind) {
  return kind == AxisKind::Own || kind == AxisKind::Share;
}

/// The kinds of one value, by axis.
struct AxisKinds {
  static constexpr size_t kNumAxes = 3;

  AxisKinds() = default;
  explicit AxisKinds(AxisKind all) { kinds.fill(all); }

  AxisKind &operator[](dist::Axis axis) { return kinds[static_cast<size_t>(axis)]; }
  AxisKind operator[](dist::Axis axis) const { return kinds[static_cast<size_t>(axis)]; }
  bool operator==(const AxisKinds &other) const {
    return kinds == other.kinds && chosen == other.chosen;
  }

  std::array<AxisKind, kNumAxes> kinds{};
  /// Over which axes (bit by Axis) it is the same because ranks' own values were gathered or their
  /// maximum taken: it is no sum, and no gradient.
  unsigned chosen = 0;
  bool isChosen(dist::Axis axis) const { return chosen & (1u << static_cast<unsigned>(axis)); }
};

/// What a program reads of `state`: parts as the sharding says, and `elsewhere` along the other
/// axes.
AxisKinds kindsOfState(moe::StateOp state, AxisKind elsewhere);

/// The axes, as `["dp", "ep"]`.
std::string axesText(llvm::ArrayRef<dist::Axis> axes);

/// The name of the parameter that a state is or belongs to, with its @.
std::string parameterName(moe::StateOp state);

/// What an op is about: the parameter whose state, or the result that, is the first to be reached
/// from its results ("@w", "the result \"loss\""); else the first state that its operands come
/// from. Linear in the program: for diagnostics.
std::string subjectOf(mlir::Operation *op);

/// Where a value comes from: "@w.grad" read directly or through collectives, the name of an
/// argument, or the op that makes it. For diagnostics.
std::string originOf(mlir::Value value);

} // namespace switchyard::passes
