// The table of signatures and the match of launches against it.
#include "kernels/signatures/Launch.h"
#include "kernels/signatures/Workspace.h"
#include "kernels/signatures/linear_cross_entropy.h"

#include <array>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <set>
#include <utility>

namespace switchyard::kernels {
namespace {

using testing::HasSubstr;

Extent constant(int64_t value) {
  return {0, -1, value};
}
/// scale * T + offset, T being symbol 0.
Extent tokens(int64_t scale = 1, int64_t offset = 0) {
  return {scale, 0, offset};
}

OperandType type(DType dtype, std::vector<Extent> shape) {
  return {dtype, std::move(shape)};
}
OperandType f32(std::vector<Extent> shape) {
  return type(DType::F32, std::move(shape));
}
OperandType bf16(std::vector<Extent> shape) {
  return type(DType::BF16, std::move(shape));
}
OperandType i32(std::vector<Extent> shape) {
  return type(DType::I32, std::move(shape));
}

std::string fault(std::string_view kernel, const std::vector<OperandType> &operands,
                  const std::vector<AttributeValue> &attributes = {}) {
  return matchLaunch(*findSignature(kernel), operands, attributes).value_or("");
}

TEST(Table, IsSortedUniqueAndSound) {
  std::set<std::string_view> names;
  std::string_view last;
  for (const Signature *signature : allSignatures()) {
    EXPECT_LT(last, signature->name);
    last = signature->name;
    EXPECT_EQ(findSignature(signature->name), signature);
    EXPECT_EQ(checkSignature(*signature), std::nullopt) << signature->name;
  }
  EXPECT_EQ(allSignatures().size(), 54u);
  EXPECT_EQ(findSignature("no_such_kernel"), nullptr);
  EXPECT_EQ(findSignature(""), nullptr);
}

TEST(Table, FindsFaultsOfSignatures) {
  const OperandSpec unbound[] = {in("x", DTypeRule::A, "2*T, D")};
  EXPECT_THAT(checkSignature({"k", unbound}).value_or(""), HasSubstr("symbol T of 'x' never"));
  const OperandSpec garbage[] = {in("x", DTypeRule::A, "T, D-1")};
  EXPECT_THAT(checkSignature({"k", garbage}).value_or(""), HasSubstr("does not parse"));
  const OperandSpec twice[] = {repeatedIn("x", DTypeRule::A, ""),
                               repeatedIn("y", DTypeRule::A, "")};
  EXPECT_THAT(checkSignature({"k", twice}).value_or(""), HasSubstr("more than one"));
  const OperandSpec overlay[] = {in("x", DTypeRule::A, "T, D"), out("y", DTypeRule::A, "T", 0)};
  EXPECT_THAT(checkSignature({"k", overlay}).value_or(""), HasSubstr("may not overlay"));
  const AttributeSpec empty[] = {real("eps", 1, 0)};
  EXPECT_THAT(checkSignature({"k", {}, empty}).value_or(""), HasSubstr("'eps' is empty"));
}

TEST(MatchLaunch, AcceptsSymbolsAndConstants) {
  EXPECT_EQ(fault("linear", {bf16({tokens(), constant(16)}), bf16({constant(8), constant(16)}),
                             bf16({tokens(), constant(8)})}),
            "");
  EXPECT_EQ(fault("add", {f32({}), f32({}), f32({})}), "");
  // A scale of zero names no symbol.
  EXPECT_EQ(fault("add", {f32({{0, 3, 5}}), f32({constant(5)}), f32({{0, 0, 5}})}), "");
}

TEST(MatchLaunch, AcceptsCompoundExtents) {
  // permute: rows [T*k, D] with T = 2*s + 1.
  EXPECT_EQ(fault("permute", {f32({tokens(2, 1), constant(4)}), i32({tokens(2, 1), constant(3)}),
                              f32({tokens(6, 3), constant(4)})}),
            "");
  // permute_grad sees T*k before T.
  EXPECT_EQ(fault("permute_grad", {f32({tokens(3), constant(4)}), i32({tokens(), constant(3)}),
                                   f32({tokens(), constant(4)})}),
            "");
  // rotary: 4*8 + 2*2*8 columns.
  EXPECT_EQ(fault("rotary",
                  {f32({tokens(), constant(64)}), i32({tokens()}), f32({tokens(), constant(64)})},
                  {{4, 0}, {2, 0}, {8, 0}, {0, 1e4}, {1, 0}}),
            "");
}

TEST(MatchLaunch, CountsRepeatedOperands) {
  OperandType statistics = f32({constant(2), constant(2), constant(8)});
  std::vector<OperandType> operands = {
      f32({constant(2)}), statistics, statistics,
      statistics,         f32({}),    f32({constant(3), constant(8)})};
  EXPECT_EQ(fault("load_balance_loss", operands, {{2, 0}}), "");
  const Signature &signature = *findSignature("load_balance_loss");
  EXPECT_EQ(specOfOperand(signature, 0, 6), 0);
  EXPECT_EQ(specOfOperand(signature, 3, 6), 1);
  EXPECT_EQ(specOfOperand(signature, 4, 6), 2);
  EXPECT_EQ(specOfOperand(signature, 5, 6), 3);
  EXPECT_EQ(operandName(signature, 3, 6), "statistics[2]");
  operands.erase(operands.begin() + 1);
  EXPECT_EQ(
      fault("load_balance_loss", operands, {{2, 0}}),
      "kernel 'load_balance_loss', operand 'expert_counts': dimension 0 is 3, expected L = 2");
  operands = {f32({constant(2)}), f32({}), f32({constant(0), constant(8)})};
  EXPECT_EQ(fault("load_balance_loss", operands, {{2, 0}}),
            "kernel 'load_balance_loss' takes at least 4 operands, found 3");
}

TEST(MatchLaunch, RefusesCountsAndDTypes) {
  OperandType x = f32({tokens(), constant(4)});
  EXPECT_EQ(fault("linear", {x, x}), "kernel 'linear' takes 3 operands, found 2");
  EXPECT_EQ(fault("linear", {x, x, x, x}), "kernel 'linear' takes 3 operands, found 4");
  EXPECT_EQ(fault("add", {x, x, x}, {{1, 0}}), "kernel 'add' takes 0 attributes, found 1");
  OperandType narrow = bf16({tokens(), constant(4)});
  EXPECT_EQ(fault("add", {x, x, narrow}),
            "kernel 'add', operand 'y': is bf16, expected f32 as 'a' is");
  EXPECT_EQ(fault("accumulate", {x, narrow}), "");
  EXPECT_EQ(fault("add", {i32({}), x, x}),
            "kernel 'add', operand 'a': is i32, expected f32 or bf16");
  EXPECT_EQ(fault("gather_rows", {x, f32({constant(2)}), x}),
            "kernel 'gather_rows', operand 'rows': is f32, expected i32");
}

TEST(MatchLaunch, TakesSumsAndTheirRoundings) {
  auto wgrad = [](DType rows, DType dw) {
    return fault("linear_wgrad",
                 {type(rows, {tokens(), constant(8)}), type(rows, {tokens(), constant(16)}),
                  type(dw, {constant(8), constant(16)})});
  };
  EXPECT_EQ(wgrad(DType::BF16, DType::F32), "");
  EXPECT_EQ(wgrad(DType::BF16, DType::BF16), "");
  EXPECT_EQ(wgrad(DType::F32, DType::F32), "");
  EXPECT_EQ(wgrad(DType::F32, DType::BF16),
            "kernel 'linear_wgrad', operand 'dw': is bf16, expected f32 as 'dy' is");
  EXPECT_EQ(wgrad(DType::BF16, DType::I32),
            "kernel 'linear_wgrad', operand 'dw': is i32, expected f32 or bf16");
}

TEST(MatchLaunch, RefusesShapes) {
  auto linear = [](OperandType y) {
    return fault("linear",
                 {f32({tokens(), constant(16)}), f32({constant(8), constant(16)}), std::move(y)});
  };
  EXPECT_EQ(linear(f32({tokens()})), "kernel 'linear', operand 'y': has rank 1, expected 2 [T, N]");
  EXPECT_EQ(linear(f32({tokens(), constant(9)})),
            "kernel 'linear', operand 'y': dimension 1 is 9, expected N = 8");
  EXPECT_EQ(linear(f32({tokens(1, 1), constant(8)})),
            "kernel 'linear', operand 'y': dimension 0 is symbol0 + 1, expected T = symbol0");
  EXPECT_EQ(linear(f32({{1, 1, 0}, constant(8)})),
            "kernel 'linear', operand 'y': dimension 0 is symbol1, expected T = symbol0");
  EXPECT_EQ(fault("add", {f32({tokens()}), f32({tokens(2)}), f32({tokens()})}),
            "kernel 'add', operand 'b': has another shape than 'a'");
  EXPECT_EQ(
      fault("permute", {f32({tokens(), constant(4)}), i32({tokens(), tokens()}),
                        f32({tokens(), constant(4)})}),
      "kernel 'permute', operand 'rows': dimension 0 is symbol0, expected T*k, which is not a "
      "multiple of one symbol within 64 bits");
}

TEST(MatchLaunch, RefusesExtentsOutOfRange) {
  auto constantOf = [](std::vector<Extent> shape) {
    return fault("constant", {f32(std::move(shape))}, {{0, 1.0}});
  };
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(constantOf({constant(-1)}),
              HasSubstr("dimension 0 is -1, expected scale and offset"));
  EXPECT_THAT(constantOf({constant(kMost)}), HasSubstr("expected scale and offset from 0 to"));
  EXPECT_THAT(constantOf({tokens(-1)}), HasSubstr("dimension 0 is -1*symbol0"));
  EXPECT_THAT(constantOf({tokens(kMost, kMost)}), HasSubstr("expected scale and offset"));
  EXPECT_THAT(constantOf({{1, -7, 0}}), HasSubstr("expected scale and offset"));
  EXPECT_THAT(constantOf(std::vector<Extent>(5, constant(1))),
              HasSubstr("'y': has rank 5, at most 4 is supported"));
  EXPECT_THAT(constantOf({constant(1 << 25), constant(1 << 25)}),
              HasSubstr("has more than 281474976710656 elements"));
  // k = 2^40 of scale 2^40 overflows in the product of an expression.
  EXPECT_THAT(fault("permute", {f32({tokens(int64_t{1} << 40), constant(1)}),
                                i32({tokens(int64_t{1} << 40), constant(int64_t{1} << 40)}),
                                f32({tokens(), constant(1)})}),
              HasSubstr("not a multiple of one symbol within 64 bits"));
}

TEST(MatchLaunch, RefusesAttributes) {
  auto scale = [](double factor) { return fault("scale", {f32({}), f32({})}, {{0, factor}}); };
  EXPECT_EQ(scale(-2.5), "");
  EXPECT_THAT(scale(std::nan("")), HasSubstr("attribute 'factor': is nan, expected a number from"));
  EXPECT_THAT(scale(HUGE_VAL), HasSubstr("attribute 'factor': is inf"));
  auto sort = [](int64_t experts) {
    return fault(
        "sort_by_expert",
        {i32({tokens(), constant(2)}), i32({constant(experts)}), i32({tokens(), constant(2)})},
        {{experts, 0}});
  };
  EXPECT_EQ(sort(8), "");
  EXPECT_EQ(sort(0), "kernel 'sort_by_expert', attribute 'num_experts': is 0, expected 1 to 65536");
  EXPECT_THAT(sort(65537), HasSubstr("is 65537, expected 1 to 65536"));
  OperandType gateUp = f32({tokens(), constant(8)}), y = f32({tokens(), constant(4)});
  EXPECT_EQ(fault("gated_activation", {gateUp, y}, {{0, 0}}), "");
  EXPECT_EQ(fault("gated_activation", {gateUp, y}, {{1, 0}}),
            "kernel 'gated_activation', attribute 'activation': is 1, expected 0 to 0");
}

TEST(WorkspaceBytes, TakesSymbolsAtTheirBounds) {
  auto crossEntropy = [](DType dtype, std::vector<int64_t> bounds, int32_t threads = 2) {
    std::vector<OperandType> operands = {type(dtype, {tokens(), constant(64)}),
                                         type(dtype, {constant(1000), constant(64)}),
                                         i32({tokens()}), f32({tokens()}), f32({})};
    std::vector<AttributeValue> attributes = {{16, 0}};
    return workspaceBytes(*findSignature("linear_cross_entropy"), operands, attributes, bounds,
                          {Target::Kind::Cpu, threads});
  };
  // 16 rows of (1000 + 64) float32, 64 of x, 4 tiles' maxima and sums, 2 threads' tiles of 256.
  int64_t common = 2 * kGemmScratchPerThread + 100 * 4 + 1024 + 16 * (1064 * 4 + 4 * 8 + 8);
  EXPECT_EQ(crossEntropy(DType::F32, {100}), common + 16 * (64 + 2 * 256) * 4);
  EXPECT_EQ(crossEntropy(DType::BF16, {100}), common + 16 * (64 + 2 * 256) * 2);
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(crossEntropy(DType::F32, {}), kNever);
  EXPECT_EQ(crossEntropy(DType::F32, {-1}), kNever);
  EXPECT_EQ(crossEntropy(DType::F32, {kNever}), kNever);
  EXPECT_EQ(crossEntropy(DType::F32, {100}, 0), kNever);
  EXPECT_EQ(crossEntropy(DType::F32, {100}, kMaxThreads + 1), kNever);
}

TEST(WorkspaceBytes, HoldsATileOfTheSumOfARoundedGradient) {
  auto wgrad = [](DType dw, Target target) {
    std::vector<OperandType> operands = {bf16({tokens(), constant(300)}),
                                         bf16({tokens(), constant(40)}),
                                         type(dw, {constant(300), constant(40)})};
    std::vector<int64_t> bounds = {100};
    return workspaceBytes(*findSignature("linear_wgrad"), operands, {}, bounds, target);
  };
  const Target cpu = {Target::Kind::Cpu, 3}, cuda = {Target::Kind::Cuda, 1};
  EXPECT_EQ(wgrad(DType::F32, cpu), 3 * kGemmScratchPerThread);
  EXPECT_EQ(wgrad(DType::BF16, cpu), 3 * (kGemmScratchPerThread + 48 * 40 * 4));
  EXPECT_EQ(wgrad(DType::F32, cuda), kCudaGemmScratch);
  EXPECT_EQ(wgrad(DType::BF16, cuda), kCudaGemmScratch);
}

TEST(WorkspaceBytes, HoldsTheSumsOfAGradientsSquares) {
  auto squared = [](int64_t experts, int64_t n, int64_t k, Target target) {
    std::vector<OperandType> operands = {
        bf16({tokens(), constant(n)}), bf16({tokens(), constant(k)}), i32({constant(experts)}),
        bf16({constant(experts), constant(n), constant(k)}), f32({})};
    std::vector<int64_t> bounds = {100};
    return workspaceBytes(*findSignature("grouped_gemm_wgrad_squared"), operands, {}, bounds,
                          target);
  };
  const Target cpu = {Target::Kind::Cpu, 3}, cuda = {Target::Kind::Cuda, 1};
  EXPECT_EQ(squared(2, 300, 40, cpu), 3 * (kGemmScratchPerThread + 48 * 40 * 4) + 1024 * 4);
  EXPECT_EQ(squared(2, 300, 40, cuda), kCudaGemmScratch + (8192 + 1024) * 4);
  // A sum for each of 64 x 65 x 9 pieces.
  EXPECT_EQ(squared(64, 1025, 1030, cuda), kCudaGemmScratch + (64 * 65 * 9 + 1024) * 4);
}

// A CPU takes fewer rows of logits at a time than a plan allows, and no more.
TEST(WorkspaceBytes, LogitsOfAChunk) {
  EXPECT_EQ(cpuCrossEntropyRows(4096, 32000), 256);
  EXPECT_EQ(cpuCrossEntropyRows(16384, 256), 1024);
  EXPECT_EQ(cpuCrossEntropyRows(1024, 1 << 20), 32);
  EXPECT_EQ(cpuCrossEntropyRows(5, 256), 5);
  auto bytes = [](int64_t rows, Target target) {
    std::vector<OperandType> operands = {bf16({constant(8192), constant(8)}),
                                         bf16({constant(32000), constant(8)}),
                                         i32({constant(8192)}), f32({constant(8192)}), f32({})};
    std::vector<AttributeValue> attributes = {{rows, 0}};
    return workspaceBytes(*findSignature("linear_cross_entropy"), operands, attributes, {}, target);
  };
  const Target cpu = {Target::Kind::Cpu, 1}, cuda = {Target::Kind::Cuda, 1};
  EXPECT_EQ(bytes(4096, cpu), bytes(256, cpu));
  EXPECT_LT(bytes(128, cpu), bytes(256, cpu));
  EXPECT_EQ(bytes(4096, cuda) - bytes(256, cuda), int64_t{4096 - 256} * (32000 * 4 + 8 * 2));
}

TEST(WorkspaceBytes, DoesNotOverflowAtTheLimits) {
  // The largest extents whose operands are allowed, and every attribute at its bound.
  Extent large = constant(int64_t{1} << 40), small = constant(int64_t{1} << 8);
  Extent chunk = constant(65536), wide = constant(int64_t{1} << 32);
  for (auto [t, d, v] : {std::array{small, large, small}, std::array{small, small, large},
                         std::array{chunk, wide, chunk}}) {
    std::vector<OperandType> operands = {f32({t, d}), f32({v, d}), i32({t}), f32({t}), f32({})};
    std::vector<AttributeValue> attributes = {{65536, 0}};
    int64_t bytes = workspaceBytes(*findSignature("linear_cross_entropy"), operands, attributes, {},
                                   {Target::Kind::Cpu, kMaxThreads});
    EXPECT_GT(bytes, int64_t{1} << 32);
    EXPECT_LT(bytes, std::numeric_limits<int64_t>::max());
  }
}

} // namespace
} // namespace switchyard::kernels
