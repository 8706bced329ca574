// A small valid plan, built by hand: an embedding and a head, trained with AdamW; and a builder for
// others.
#pragma once

#include "runtime/plan/Plan.h"

#include <initializer_list>
#include <string>

namespace switchyard::test {

inline constexpr int64_t kVocab = 12;
inline constexpr int64_t kWidth = 8;
inline constexpr int64_t kExperts = 4;
inline constexpr int64_t kRows = 3;
inline constexpr int64_t kTokensBound = 40;
inline constexpr AxisSet kFsdpAndEp = AxisSet(Axis::Fsdp) | AxisSet(Axis::Ep);

/// Extents: a fixed one, and symbols in the order that newPlan() declares them.
Extent fixed(int64_t value);
Extent tokens();
Extent segmentsPlusOne();
Extent microBatches();
Extent rowsReceived(); // R, which newPlan() does not declare

/// A plan with symbols, settings and no states or programs.
Plan newPlan();

/// Adds states one after the other. Parameters get the HF tensor `name` as their source.
int32_t addState(Plan &plan, StateKind kind, std::string name, std::vector<int64_t> shape,
                 int32_t of = -1, DType dtype = DType::F32, Sharding sharding = {});

/// Builds a program whose buffers lie one after the other.
class ProgramBuilder {
public:
  ProgramBuilder(const Plan &plan, std::string name);

  uint32_t state(int32_t index);
  uint32_t transient(DType dtype, std::vector<Extent> shape);
  /// A buffer with room for `elements`.
  uint32_t reserving(int64_t elements, DType dtype, std::vector<Extent> shape);
  /// A buffer of this type where `other` is.
  uint32_t sharing(uint32_t other, DType dtype, std::vector<Extent> shape);
  uint32_t input(std::string name, DType dtype, std::vector<Extent> shape);
  uint32_t output(std::string name, DType dtype, std::vector<Extent> shape);
  /// Inputs and outputs that micro_step and evaluate have.
  struct Pass {
    uint32_t inputIds, positionIds, cuSeqlens, labels, lossWeights, microBatchIds, auxWeights, loss,
        auxLoss, expertCounts;
  };
  Pass pass();

  /// Adds a launch, with a workspace where its kernel wants one.
  void launch(std::string kernel, std::vector<uint32_t> operands,
              std::vector<kernels::AttributeValue> attributes = {});
  void copy(uint32_t from, uint32_t to);
  void collective(CollectiveKind kind, AxisSet axes, std::vector<uint32_t> operands,
                  uint32_t stream = 0);
  void add(Instruction instruction);

  const Program &program() const { return program_; }

private:
  uint32_t place(Arena arena, DType dtype, std::vector<Extent> shape, int64_t reserve = 0);

  const Plan &plan_;
  Program program_;
  uint64_t ends_[kNumArenas] = {};
};

/// Sets the arenas' sizes and the peak to what the plan's states and programs need.
void finish(Plan &plan);

/// The plan: programs micro_step, optimizer_step, evaluate and logits over "embed" and "head" [V,
/// D], their gradients and moments.
Plan tinyPlan(kernels::Target target = {kernels::Target::Kind::Cpu, 2});

/// optimizer_step of a plan whose states are, in this order, those of TinyState; their gradients
/// are divided over fsdp and ep where the mesh has them.
enum TinyState : int32_t { kEmbed, kHead, kEmbedGrad, kHeadGrad, kEmbedM, kEmbedV, kHeadM, kHeadV };
Program optimizerStep(const Plan &plan);

/// The program of `plan` called `name`.
Program &programOf(Plan &plan, std::string_view name);

/// The launch at `index` of `program`.
LaunchInstruction &launchAt(Program &program, size_t index);

} // namespace switchyard::test
