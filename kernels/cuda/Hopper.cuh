// What kernels for sm_90a need that CUDA C++ has no words for: the copy engine (TMA), barriers in
// shared memory that count its bytes, and products of a warpgroup (wgmma). Thin wrappers, named as
// PTX names them; see the PTX ISA, "Asynchronous Warpgroup Level Matrix" and "mbarrier".
//
// Only code compiled for sm_90a may call these: guard the bodies of kernels by SWITCHYARD_HOPPER.
#pragma once

#include <cstdint>
#include <cuda.h>

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define SWITCHYARD_HOPPER 1
#endif

namespace switchyard::kernels::cuda::hopper {

__device__ inline uint32_t sharedAddress(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// -- Barriers in shared memory
// ----------------------------------------------------------------------

__device__ inline void initBarrier(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// Makes initialized barriers known to the copy engine.
__device__ inline void fenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Arrives, and lets the phase wait for this many bytes of the copy engine too.
__device__ inline void arriveExpecting(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

__device__ inline void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Waits for the end of the phase of this parity.
__device__ inline void wait(uint32_t barrier, uint32_t parity) {
  asm volatile("{\n"
               ".reg .pred done;\n"
               "again:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@done bra.uni over;\n"
               "bra.uni again;\n"
               "over:\n"
               "}" ::"r"(barrier),
               "r"(parity)
               : "memory");
}

/// Which stage of a ring comes next, and the parity of its barriers' phase.
template <int Stages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == Stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// -- Clusters of blocks --

/// This block's number in its cluster.
__device__ inline int clusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}
/// Waits for all threads of the cluster.
__device__ inline void syncCluster() {
  asm volatile("barrier.cluster.arrive.release;\n"
               "barrier.cluster.wait.acquire;" ::
                   : "memory");
}
/// Where another block of the cluster has what this one has at `address`.
__device__ inline uint32_t addressIn(int rank, uint32_t address) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}
/// Stores 16 bytes; `barrier`, of the same block, counts them.
__device__ inline void storeAsync(uint32_t to, int4 values, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 "
               "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
               "r"(values.x), "r"(values.y), "r"(values.z), "r"(values.w), "r"(barrier)
               : "memory");
}
/// Arrives at a barrier of the cluster, once this thread has read what others may now write.
__device__ inline void arriveCluster(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void arriveExpectingCluster(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cluster.b64 _, [%0], %1;" ::"r"(barrier),
               "r"(bytes)
               : "memory");
}

/// Whether this is the thread of its warp, all of which calls it, that acts for it. The compiler
/// knows that there is one: with any other condition it puts a loop around what takes operands
/// from registers of the warp, as the copy engine does.
__device__ inline bool elect() {
  uint32_t isElected = 0;
  asm volatile("{\n"
               ".reg .pred elected;\n"
               "elect.sync _|elected, 0xffffffff;\n"
               "@elected mov.b32 %0, 1;\n"
               "}"
               : "+r"(isElected));
  return isElected;
}

/// A barrier of `threads` threads of the block; `name` is 1 to 15.
__device__ inline void syncNamed(int name, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// -- The copy engine
// --------------------------------------------------------------------------------

__device__ inline void prefetchMap(const CUtensorMap &map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Where a box of a tensor begins, its contiguous dimension first.
struct Box {
  int x, y, z;
};

/// Fetches a box of a tensor of rank 3 into shared memory; `barrier` counts its bytes.
__device__ inline void load(uint32_t to, const CUtensorMap &map, Box at, uint32_t barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
               "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z)
               : "memory");
}

/// Fetches it into both blocks of a cluster of two, at the same addresses; the barrier of each
/// counts its bytes.
__device__ inline void loadToBoth(uint32_t to, const CUtensorMap &map, Box at, uint32_t barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
               ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
               "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z),
               "h"(static_cast<uint16_t>(3))
               : "memory");
}

// -- Copies of single packs, by this thread --

/// Starts to copy 16 bytes into shared memory, or to zero them.
__device__ inline void copyAsync(uint32_t to, const void *from, bool isThere) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(isThere ? 16 : 0)
               : "memory");
}
/// Arrives at a barrier when this thread's copies so far are done.
__device__ inline void arriveAfterCopies(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// -- Global memory --

/// Loads 16 bytes that this multiprocessor reads once, if `isThere`, without a branch.
__device__ inline void loadOnce(uint32_t (&words)[4], const void *from, bool isThere) {
  asm volatile("{\n"
               ".reg .pred there;\n"
               "setp.ne.b32 there, %5, 0;\n"
               "@there ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];\n"
               "}"
               : "+r"(words[0]), "+r"(words[1]), "+r"(words[2]), "+r"(words[3])
               : "l"(from), "r"(static_cast<int>(isThere))
               : "memory");
}

/// Loads 2 bytes if `isHalf`, else 4, without a branch: at its end a warp would wait for all that
/// it has asked for.
__device__ inline uint32_t loadHalfOrWord(const void *from, bool isHalf) {
  uint32_t bits;
  asm volatile("{\n"
               ".reg .pred half;\n"
               "setp.ne.b32 half, %2, 0;\n"
               "@half ld.global.u16 %0, [%1];\n"
               "@!half ld.global.u32 %0, [%1];\n"
               "}"
               : "=r"(bits)
               : "l"(from), "r"(static_cast<int>(isHalf))
               : "memory");
  return bits;
}

// -- Shared memory, by address --

__device__ inline void storeShared(uint32_t to, float2 values) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(values.x), "f"(values.y)
               : "memory");
}
/// Stores what another thread may load meanwhile, and loads what another may store.
__device__ inline void storeShared(uint32_t to, uint32_t value) {
  asm volatile("st.volatile.shared.b32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
__device__ inline uint32_t loadShared(uint32_t from) {
  uint32_t value;
  asm volatile("ld.volatile.shared.b32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}
__device__ inline void storeShared(uint32_t to, uint2 words) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to), "r"(words.x), "r"(words.y) : "memory");
}
/// Loads 8 bytes.
__device__ inline uint2 loadWords(uint32_t from) {
  uint2 words;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];"
               : "=r"(words.x), "=r"(words.y)
               : "r"(from)
               : "memory");
  return words;
}
/// Loads 16 bytes.
__device__ inline uint4 loadPack(uint32_t from) {
  uint4 pack;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(pack.x), "=r"(pack.y), "=r"(pack.z), "=r"(pack.w)
               : "r"(from)
               : "memory");
  return pack;
}
/// Zeroes 16 bytes.
__device__ inline void clearShared(uint32_t to) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
}

/// Orders this thread's writes to shared memory before later reads by wgmma or the copy engine.
__device__ inline void fenceAsyncProxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Stores four 8x8 matrices of 16-bit elements, one pack of a thread from each; lane i gives the
/// address of line i % 8 of matrix i / 8.
__device__ inline void storeMatrices(uint32_t to, const uint32_t (&packs)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
               "r"(packs[0]), "r"(packs[1]), "r"(packs[2]), "r"(packs[3])
               : "memory");
}

// -- Warpgroups --

template <int Registers>
__device__ void raiseRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ void lowerRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

/// Before the first product and after any other write to its operands' registers.
__device__ inline void fenceProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most `Pending` committed groups run.
template <int Pending>
__device__ void waitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

/// Describes an operand that lies in shared memory in lines of 128 bytes, swizzled, eight lines a
/// block. Where the contraction runs along the lines, `across` is unused; where it runs across
/// them, `across` is the distance between the pieces of 64 elements of the other dimension.
__device__ inline uint64_t describe(uint32_t address, uint32_t across) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kBlock = uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kBlock | static_cast<uint64_t>((across & 0x3ffff) >> 4) << 16 |
         ((address & 0x3ffff) >> 4);
}

#define SWITCHYARD_SUMS_8(i)                                                                       \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]),      \
      "+f"(c[i + 6]), "+f"(c[i + 7])
#define SWITCHYARD_SUMS_32(i)                                                                      \
  SWITCHYARD_SUMS_8(i), SWITCHYARD_SUMS_8(i + 8), SWITCHYARD_SUMS_8(i + 16),                       \
      SWITCHYARD_SUMS_8(i + 24)
#define SWITCHYARD_NAMES_32                                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7"                                                                 \
  ", %8, %9, %10, %11, %12, %13, %14, %15"                                                         \
  ", %16, %17, %18, %19, %20, %21, %22, %23"                                                       \
  ", %24, %25, %26, %27, %28, %29, %30, %31"
#define SWITCHYARD_NAMES_64                                                                        \
  SWITCHYARD_NAMES_32                                                                              \
  ", %32, %33, %34, %35, %36, %37, %38, %39"                                                       \
  ", %40, %41, %42, %43, %44, %45, %46, %47"                                                       \
  ", %48, %49, %50, %51, %52, %53, %54, %55"                                                       \
  ", %56, %57, %58, %59, %60, %61, %62, %63"
#define SWITCHYARD_NAMES_128                                                                       \
  SWITCHYARD_NAMES_64                                                                              \
  ", %64, %65, %66, %67, %68, %69, %70, %71"                                                       \
  ", %72, %73, %74, %75, %76, %77, %78, %79"                                                       \
  ", %80, %81, %82, %83, %84, %85, %86, %87"                                                       \
  ", %88, %89, %90, %91, %92, %93, %94, %95"                                                       \
  ", %96, %97, %98, %99, %100, %101, %102, %103"                                                   \
  ", %104, %105, %106, %107, %108, %109, %110, %111"                                               \
  ", %112, %113, %114, %115, %116, %117, %118, %119"                                               \
  ", %120, %121, %122, %123, %124, %125, %126, %127"

/// c [64, N] = a [64, 16] b [N, 16]^T, plus c if `add`, in bfloat16 with float32 sums, of a
/// warpgroup; N is 2 * Sums. `AcrossA`: a's contraction runs across the lines; likewise b's.
/// c[4 i + 2 h + j] of thread t is row t / 32 * 16 + t % 32 / 4 + 8 h, column 8 i + t % 4 * 2 + j.
template <bool AcrossA, bool AcrossB, int Sums>
__device__ void multiply(float (&c)[Sums], uint64_t a, uint64_t b, bool add) {
  static_assert(Sums == 32 || Sums == 64 || Sums == 128);
  if constexpr (Sums == 32)
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" SWITCHYARD_NAMES_32
                 "}, %32, %33, add, 1, 1, %35, %36;\n}"
                 : SWITCHYARD_SUMS_32(0)
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(AcrossA ? 1 : 0),
                   "n"(AcrossB ? 1 : 0));
  else if constexpr (Sums == 64)
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" SWITCHYARD_NAMES_64
                 "}, %64, %65, add, 1, 1, %67, %68;\n}"
                 : SWITCHYARD_SUMS_32(0), SWITCHYARD_SUMS_32(32)
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(AcrossA ? 1 : 0),
                   "n"(AcrossB ? 1 : 0));
  else
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %130, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" SWITCHYARD_NAMES_128
                 "}, %128, %129, add, 1, 1, %131, %132;\n}"
                 : SWITCHYARD_SUMS_32(0), SWITCHYARD_SUMS_32(32), SWITCHYARD_SUMS_32(64),
                   SWITCHYARD_SUMS_32(96)
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(AcrossA ? 1 : 0),
                   "n"(AcrossB ? 1 : 0));
}

/// c [64, N] += a [64, 16] b [16, N], a in registers as c is (pairs of columns), the contraction
/// across b's lines.
template <int Sums>
__device__ void multiplyRegisters(float (&c)[Sums], const uint32_t *a, uint64_t b) {
  static_assert(Sums == 32 || Sums == 64);
  if constexpr (Sums == 32)
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" SWITCHYARD_NAMES_32
                 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : SWITCHYARD_SUMS_32(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  else
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" SWITCHYARD_NAMES_64
                 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : SWITCHYARD_SUMS_32(0), SWITCHYARD_SUMS_32(32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef SWITCHYARD_NAMES_128
#undef SWITCHYARD_NAMES_64
#undef SWITCHYARD_NAMES_32
#undef SWITCHYARD_SUMS_32
#undef SWITCHYARD_SUMS_8

} // namespace switchyard::kernels::cuda::hopper
