// Matrix products of one thread each, prepared before they run.
//
// A kernel cuts its product into tiles, gives each tile to one task, and each task calls one of
// these. The tiles follow from the shapes alone, never from the number of threads, so that the
// results do not depend on it. oneDNN's matmul primitives do the work (brgemm on AVX-512, chosen
// for every shape as long as the matrices are dense); creating one takes about half a millisecond
// and allocates, running one does not, but for allocatesInProducts(). Where it has no product of
// bfloat16, PlainProduct.h has.
#pragma once

#include "kernels/cpu/Kernels.h"
#include "kernels/signatures/Workspace.h"

#include <cstddef>
#include <memory>

namespace switchyard::kernels::cpu {

/// C = A B, or C += A B, for A [m, k] (stored [k, m] if transposeA), B [k, n] (stored [n, k] if
/// transposeB) and C [m, n], all dense and row-major. Sums are float32.
struct GemmShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  DType input = DType::F32;
  DType output = DType::F32;
  bool transposeA = false;
  bool transposeB = false;
  bool accumulate = false;
  bool operator==(const GemmShape &) const = default;
};

/// The prepared products of one rank. `prepare` is for one thread at a time; then `run` may be
/// called by all threads of the pool at once.
class GemmCache {
public:
  explicit GemmCache(int threads);
  ~GemmCache();
  GemmCache(const GemmCache &) = delete;
  GemmCache &operator=(const GemmCache &) = delete;

  /// Makes `run` possible for `shape`. Returns why it can't: oneDNN has no such product on this
  /// machine, or wants more than kGemmLibraryScratch.
  std::optional<std::string> prepare(const GemmShape &shape);

  /// Computes a prepared product on the calling thread, `thread` of the pool. `scratch` has
  /// kGemmLibraryScratch bytes. An empty product is zero and needs no preparation.
  void run(const GemmShape &shape, const void *a, const void *b, void *c, std::byte *scratch,
           int thread) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Whether products of `input` take memory of oneDNN's own while they run, as it packs the matrices
/// into memory that it allocates: on a CPU without AVX-512 those of float32 do, and of those with
/// it on the ones without AVX-512 BF16 those of bfloat16.
bool allocatesInProducts(DType input);

/// What oneDNN may use of a thread's kGemmScratchPerThread; the rest is for packing.
inline constexpr int64_t kGemmLibraryScratch = kGemmScratchPerThread - (1 << 17);

} // namespace switchyard::kernels::cpu
