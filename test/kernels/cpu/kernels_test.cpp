// The CPU's table of kernels, its threads, its prepared products and their keeping off the heap.
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/Gemm.h"
#include "kernels/cpu/Kernels.h"
#include "kernels/cpu/NoHeapScope.h"
#include "kernels/cpu/PlainProduct.h"
#include "kernels/cpu/ThreadPool.h"
#include "kernels/cpu/Tiles.h"
#include "test/kernels/conformance/HeapCounter.h"

#include <atomic>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <new>
#include <vector>

namespace switchyard::kernels::cpu {
namespace {

using switchyard::testing::countsHeapAllocations;
using switchyard::testing::heapAllocations;

TEST(Kernels, EverySignatureHasAKernel) {
  for (const Signature *signature : allSignatures()) {
    const Kernel *kernel = findKernel(signature->name);
    ASSERT_NE(kernel, nullptr) << signature->name;
    EXPECT_EQ(kernel->name, signature->name);
    EXPECT_NE(kernel->run, nullptr) << signature->name;
  }
  EXPECT_EQ(findKernel("no_such_kernel"), nullptr);
}

/// What linear_wgrad computes of rows with these values, as bits of elements of `dtype`.
std::vector<uint16_t> weightGradient(DType dtype, const std::vector<uint16_t> &dyBits,
                                     const std::vector<uint16_t> &xBits, int64_t n, int64_t k) {
  std::vector<uint16_t> dy = dyBits, x = xBits;
  std::vector<uint16_t> dw(n * k * byteSize(dtype) / 2);
  const auto t = static_cast<int64_t>(dy.size()) / n;
  const Tensor operands[] = {{dy.data(), DType::BF16, 2, {t, n}},
                             {x.data(), DType::BF16, 2, {t, k}},
                             {dw.data(), dtype, 2, {n, k}}};
  ThreadPool pool(2);
  GemmCache gemms(2);
  Context context{&pool, &gemms};
  std::vector<std::byte> workspace(2 * (kGemmScratchPerThread + weightGradientTileRows(n) * k * 4));
  Launch launch{operands, {}, workspace, &context};
  const Kernel *kernel = findKernel("linear_wgrad");
  EXPECT_EQ(kernel->prepare(launch), std::nullopt);
  kernel->run(launch);
  return dw;
}

TEST(WeightGradient, IsTheRoundingOfTheSum) {
  constexpr int64_t t = 300, n = 70, k = 33;
  auto values = [](int64_t count) {
    std::vector<uint16_t> bits(count);
    for (int64_t i = 0; i < count; ++i)
      bits[i] = fromFloat<BFloat16>(static_cast<float>(i * 37 % 101) / 101 - 0.4f).bits;
    return bits;
  };
  const std::vector<uint16_t> dy = values(t * n), x = values(t * k);
  const std::vector<uint16_t> sums = weightGradient(DType::F32, dy, x, n, k);
  const std::vector<uint16_t> rounded = weightGradient(DType::BF16, dy, x, n, k);
  for (int64_t i = 0; i < n * k; ++i) {
    float sum = 0;
    std::memcpy(&sum, &sums[2 * i], sizeof sum);
    ASSERT_EQ(rounded[i], fromFloat<BFloat16>(sum).bits) << "element " << i;
  }
}

TEST(ThreadPool, RunsEveryIndexOnceWhateverTheNumberOfThreads) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    std::vector<std::atomic<int>> visits(1000);
    for (int64_t count : {0, 1, 2, 7, 1000})
      for (int repeat = 0; repeat < 200; ++repeat) {
        for (auto &visit : visits)
          visit.store(0, std::memory_order_relaxed);
        pool.parallelFor(count, [&](int64_t index, int thread) {
          EXPECT_GE(thread, 0);
          EXPECT_LT(thread, threads);
          visits[index].fetch_add(1, std::memory_order_relaxed);
        });
        for (int64_t index = 0; index < 1000; ++index)
          ASSERT_EQ(visits[index].load(), index < count) << "index " << index << " of " << count;
      }
  }
}

TEST(ThreadPool, AWorkOfOneThreadIsVisibleAfterTheLoop) {
  ThreadPool pool(3);
  std::vector<int64_t> values(64);
  for (int64_t repeat = 0; repeat < 2000; ++repeat) {
    pool.parallelFor(64, [&](int64_t index, int) { values[index] += index; });
    ASSERT_EQ(values[63], 63 * (repeat + 1));
  }
}

TEST(ThreadPool, AllocatesNothingWhileItRuns) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  int64_t before = heapAllocations();
  for (int repeat = 0; repeat < 100; ++repeat)
    pool.parallelFor(100, [&](int64_t index, int) { sum += index; });
  EXPECT_EQ(heapAllocations() - before, 0);
  EXPECT_EQ(sum.load(), 100 * 4950);
}

TEST(HeapCounter, CountsWhatItIsThereToCatch) {
  if (!countsHeapAllocations())
    GTEST_SKIP() << "the sanitizer owns malloc";
  int64_t before = heapAllocations();
  void *volatile memory = ::operator new(10);
  EXPECT_EQ(heapAllocations() - before, 1);
  ::operator delete(memory);
}

TEST(NoHeapScope, ServesSmallAllocationsFromItsSlab) {
  if (!countsHeapAllocations())
    GTEST_SKIP() << "does nothing under a sanitizer";
  void *volatile outlives = nullptr;
  int64_t before = heapAllocations();
  for (int repeat = 0; repeat < 100; ++repeat) { // far more in all than a slab holds
    NoHeapScope scope;
    void *volatile first = ::operator new(300);
    void *volatile second = ::operator new(1);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(second) % alignof(std::max_align_t), 0u);
    EXPECT_NE(first, second);
    ::operator delete(first);
    ::operator delete(second);
  }
  {
    NoHeapScope scope;
    outlives = ::operator new(64);
    NoHeapScope nested;
  }
  EXPECT_EQ(heapAllocations() - before, 0);
  void *volatile other = nullptr;
  {
    NoHeapScope scope; // the slab is not reused under what is alive
    other = ::operator new(64);
    EXPECT_NE(other, outlives);
  }
  for (int repeat = 0; repeat < 100; ++repeat) { // and what is alive takes no room from others
    NoHeapScope scope;
    ::operator delete(::operator new(300));
  }
  EXPECT_EQ(heapAllocations() - before, 0);
  ::operator delete(outlives);
  ::operator delete(other);
  {
    NoHeapScope scope; // what does not fit comes from the heap
    void *volatile large = ::operator new(1 << 20);
    ::operator delete(large);
  }
  EXPECT_EQ(heapAllocations() - before, 1);
}

TEST(GemmCache, RefusesScratchBeyondTheBound) {
  if (allocatesInProducts(DType::F32))
    GTEST_SKIP() << "oneDNN takes memory of its own on this CPU";
  GemmCache gemms(1);
  // oneDNN copies a transposed matrix into scratch, whole rows of it at a time.
  std::optional<std::string> fault;
  for (int64_t k = 1 << 12; !fault && k <= 1 << 20; k *= 4)
    fault = gemms.prepare({4096, 4096, k, DType::F32, DType::F32, true, false, true});
  ASSERT_TRUE(fault.has_value());
  EXPECT_THAT(*fault, ::testing::HasSubstr("bytes of scratch for the product f32 [4096, "));
  EXPECT_THAT(*fault, ::testing::HasSubstr("the kernels' signatures grant 917504"));
}

/// Against float64: every form of a product of bfloat16, with sizes past what is summed at once.
TEST(PlainProduct, AgreesWithFloat64) {
  constexpr int64_t kM = 3, kN = 530, kK = 37;
  std::vector<BFloat16> a(kM * kK), b(kK * kN);
  uint32_t state = 1;
  for (auto *matrix : {&a, &b})
    for (BFloat16 &value : *matrix) {
      state = state * 1664525u + 1013904223u;
      value = fromFloat<BFloat16>(static_cast<float>(state >> 8) / (1 << 23) - 1);
    }
  for (bool transposeA : {false, true})
    for (bool transposeB : {false, true})
      for (bool accumulate : {false, true}) {
        std::vector<float> c(kM * kN, 2.0f);
        runPlainProduct({kM, kN, kK, DType::BF16, DType::F32, transposeA, transposeB, accumulate},
                        a.data(), b.data(), c.data());
        for (int64_t i = 0; i < kM; ++i)
          for (int64_t j = 0; j < kN; ++j) {
            double sum = accumulate ? 2 : 0;
            for (int64_t k = 0; k < kK; ++k)
              sum += double{toFloat(a[transposeA ? k * kM + i : i * kK + k])} *
                     toFloat(b[transposeB ? j * kK + k : k * kN + j]);
            ASSERT_NEAR(c[i * kN + j], sum, 1e-5) << i << ", " << j;
          }
      }
}

TEST(GemmCache, EmptyProductsAreZero) {
  GemmCache gemms(1);
  GemmShape shape{2, 3, 0};
  EXPECT_EQ(gemms.prepare(shape), std::nullopt);
  std::vector<float> c(6, 1.0f);
  gemms.run(shape, nullptr, nullptr, c.data(), nullptr, 0);
  EXPECT_THAT(c, ::testing::Each(0.0f));
  shape.accumulate = true;
  c.assign(6, 1.0f);
  gemms.run(shape, nullptr, nullptr, c.data(), nullptr, 0);
  EXPECT_THAT(c, ::testing::Each(1.0f));
}

TEST(RowPieces, CoverTheRowsInOrderWithPreparedSizes) {
  for (int64_t rows = 0; rows <= 700; ++rows) {
    std::vector<int64_t> prepared;
    RowPieces::prepareAll(rows, [&](int64_t size) -> std::optional<std::string> {
      prepared.push_back(size);
      return std::nullopt;
    });
    EXPECT_LE(prepared.size(), 16u);
    RowPieces pieces(rows);
    int64_t next = 0;
    for (int64_t i = 0; i < pieces.count(); ++i) {
      RowPieces::Piece piece = pieces.at(i);
      ASSERT_EQ(piece.first, next);
      ASSERT_THAT(prepared, ::testing::Contains(piece.rows)) << rows;
      next += piece.rows;
    }
    ASSERT_EQ(next, rows);
  }
}

} // namespace
} // namespace switchyard::kernels::cpu
