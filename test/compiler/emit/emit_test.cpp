// A plan becomes a module that verifies, and that the same plan again: for every kind of
// instruction, and everything else that a plan for many ranks says.

#include "compiler/emit/Emit.h"
#include "runtime/plan/PlanFile.h"
#include "test/runtime/plan/TinyPlan.h"

#include "dialects/plan/Plan.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"

#include <gtest/gtest.h>

namespace switchyard::compiler {
namespace {

using test::fixed;
using test::tokens;

constexpr int32_t kW = 0, kWGrad = 1, kNorm = 2, kNormGrad = 3;

Extent received() {
  return {1, 3, 0};
}

/// States of dp=2, fsdp=2, ep=2: experts divided and flat, a norm flat, gradients of which one is
/// whole, with room for its padding.
Plan planOfRanks() {
  Plan plan = test::newPlan();
  plan.mesh = {{2, 2, 2}};
  plan.symbols.push_back({"R", 100, 2.5});
  plan.training.auxLossScope = "pass";
  plan.training.syncEachBatch = false;
  test::addState(plan, StateKind::Parameter, "w", {4, 16, 16});
  test::addState(plan, StateKind::Gradient, "w.grad", {4, 16, 16}, kW);
  test::addState(plan, StateKind::Parameter, "norm", {50});
  test::addState(plan, StateKind::Gradient, "norm.grad", {50}, kNorm);
  plan.states[kW].sharding = {Axis::Ep, Axis::Fsdp};
  plan.states[kWGrad].sharding = {Axis::Ep, {}};
  plan.states[kNorm].sharding = {{}, AxisSet(Axis::Fsdp) | Axis::Ep};
  plan.states[kNormGrad].reserve = 512;
  return plan;
}

/// The buffer of a state's local part.
uint32_t local(Program &program, const Plan &plan, int32_t index) {
  const State &state = plan.states[index];
  Buffer buffer{state.dtype, {}, Arena::State, state.offset, index, state.reserve};
  for (int64_t extent : localShape(state.shape, state.sharding, plan.mesh))
    buffer.shape.push_back(fixed(extent));
  program.buffers.push_back(buffer);
  return static_cast<uint32_t>(program.buffers.size()) - 1;
}

/// A program that has each kind of instruction, on several streams.
Program program(const Plan &plan) {
  test::ProgramBuilder builder(plan, "micro_step");
  uint32_t x = builder.input("x", DType::F32, {tokens(), fixed(16)});
  uint32_t y = builder.output("y", DType::F32, {tokens(), fixed(16)});
  uint32_t experts = builder.transient(DType::F32, {fixed(2), fixed(16), fixed(16)});
  uint32_t norm = builder.transient(DType::F32, {fixed(50)});
  uint32_t part = builder.transient(DType::F32, {fixed(128)});
  uint32_t sum = builder.transient(DType::F32, {fixed(128)});
  uint32_t counts = builder.transient(DType::I32, {fixed(4)});
  uint32_t allCounts = builder.transient(DType::I32, {fixed(2), fixed(4)});
  uint32_t rows = builder.transient(DType::F32, {received(), fixed(16)});
  uint32_t sizes = builder.transient(DType::I32, {fixed(2)});
  uint32_t round = builder.transient(DType::I32, {});
  uint32_t flag = builder.transient(DType::F32, {});
  uint32_t flags = builder.transient(DType::F32, {});
  Program made = builder.program();
  made.buffers[norm].reserve = 512;
  uint32_t w = local(made, plan, kW), shard = local(made, plan, kNorm);
  uint32_t wGrad = local(made, plan, kWGrad), normGrad = local(made, plan, kNormGrad);

  using Kind = CollectiveKind;
  const AxisSet ep = Axis::Ep, fsdp = Axis::Fsdp, both = fsdp | ep, all = both | Axis::Dp;
  made.instructions = {
      CollectiveInstruction{Kind::AllGather, fsdp, false, false, {w, experts}, 1},
      CollectiveInstruction{Kind::AllGather, both, false, false, {shard, norm}, 1},
      RecordInstruction{0, 1},
      CollectiveInstruction{Kind::AllGather, ep, false, false, {counts, allCounts}, 0},
      WaitInstruction{0, 0},
      CollectiveInstruction{Kind::TokenExchange, ep, false, false, {x, allCounts, rows, sizes}, 3},
      CollectiveInstruction{Kind::TokenReturn, ep, false, false, {rows, allCounts, y}, 3},
      RepeatInstruction{round, allCounts, ep, 4, 3},
      CollectiveInstruction{
          Kind::TokenExchange, ep, false, false, {x, allCounts, rows, sizes, round}, 3},
      LaunchInstruction{"scale", {experts, wGrad}, {{0, 2.0}}, -1, 3},
      CollectiveInstruction{Kind::TokenReturn, ep, false, true, {rows, allCounts, y, round}, 3},
      CopyInstruction{norm, normGrad, 3},
      RecordInstruction{1, 3},
      WaitInstruction{1, 2},
      CollectiveInstruction{Kind::ReduceScatter, both, false, false, {normGrad, part}, 2},
      CollectiveInstruction{Kind::AllReduce, Axis::Dp, false, false, {part, sum}, 2},
      CollectiveInstruction{Kind::AllReduce, all, true, false, {flag, flags}, 2},
      RepeatInstruction{round, allCounts, ep, 0, 0},
  };
  return made;
}

class Emit : public testing::Test {
protected:
  Emit() { context_.loadDialect<plan::PlanDialect>(); }

  void expectSameAgain(const Plan &plan) {
    mlir::OwningOpRef<mlir::ModuleOp> module = planToModule(plan, context_);
    ASSERT_TRUE(mlir::succeeded(mlir::verify(*module)));
    Result<Plan> again = emitPlan(*module);
    ASSERT_TRUE(again.ok()) << again.status().message();
    again->compilerVersion = plan.compilerVersion; // that of the compiler that emitted it
    EXPECT_EQ(serialize(*again), serialize(plan));
  }

  mlir::MLIRContext context_;
};

TEST_F(Emit, OneRank) {
  expectSameAgain(test::tinyPlan());
}

TEST_F(Emit, ManyRanks) {
  Plan plan = planOfRanks();
  plan.programs = {program(plan)};
  test::finish(plan);
  expectSameAgain(plan);
}

TEST_F(Emit, AnAxisOfOneRankIsKept) {
  Plan plan = planOfRanks();
  plan.mesh = {{1, 4, 1}};
  plan.states[kWGrad].reserve = 0;
  plan.programs.clear();
  test::finish(plan);
  mlir::OwningOpRef<mlir::ModuleOp> module = planToModule(plan, context_);
  auto mesh = dist::lookupMesh(*module);
  ASSERT_TRUE(mesh);
  EXPECT_FALSE(mesh.getMesh().sizeOf(dist::Axis::Dp));
  EXPECT_EQ(mesh.getMesh().sizeOf(dist::Axis::Fsdp), 4);
  EXPECT_EQ(mesh.getMesh().sizeOf(dist::Axis::Ep), 1); // a sharding names it
}

TEST_F(Emit, RefusesWhatHasNoAddress) {
  Plan plan = planOfRanks();
  plan.programs = {program(plan)};
  test::finish(plan);
  mlir::OwningOpRef<mlir::ModuleOp> module = planToModule(plan, context_);
  module->walk([](plan::BufferOp buffer) {
    if (buffer.getArena() == plan::Arena::Transient)
      buffer.removeOffsetAttr();
  });
  Result<Plan> again = emitPlan(*module);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.status().message(),
            "a buffer of program micro_step has no address; run assign-addresses first");
}

} // namespace
} // namespace switchyard::compiler
