// Grouped GEMM with what sm_90a has for it: tiles fetched by the copy engine into a ring of stages
// in shared memory, multiplied by warpgroups (wgmma) out of it.
//
// As many blocks as the device has multiprocessors stay for the whole launch. In each, one thread
// fetches and two warpgroups multiply, each half of a tile's 128 rows by its 256 columns; the next
// tile is being fetched while a result is stored. Two blocks form a cluster and work on neighboring
// tiles, so that each fetches one half of what both need, for both. Every block finds its tiles
// from the group sizes, which stay on the device.
//
// Rows of another group may be fetched with a group's last ones: for the result by rows they are
// not stored; where rows are contracted (by weight), they are zeroed in shared memory.
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/Groups.cuh"
#include "kernels/cuda/Hopper.cuh"

#include <cudaTypedefs.h>

namespace switchyard::kernels::cuda {
namespace {

constexpr int kTileM = 128, kTileN = 256, kTileK = 64, kStages = 4;
constexpr int kLine = 128; // bytes that the copy engine swizzles
constexpr int kBoxBytes = 64 * kLine;
constexpr int kBytesA = kTileM * kTileK * 2, kBytesB = kTileN * kTileK * 2;
constexpr int kStageBytes = kBytesA + kBytesB;
constexpr int kWarpgroup = 128, kConsumers = 2, kBlock = (1 + kConsumers) * kWarpgroup;
constexpr int kMaxExperts = 2048;
constexpr int kCluster = 2;

/// What the tiles are of: rows of x (or dy) by an expert's matrix, or an expert's matrix by weight.
struct Arguments {
  const int32_t *sizes;
  int rows, experts;
  int height;  // of an expert's result by weight
  int columns; // of the result
  int depth;   // of the contraction by rows
  int band;    // see unitOf
};

/// The bytes of shared memory for `experts` groups: stages, barriers, then two tables.
constexpr int sharedBytes(int experts) {
  return kStages * (kStageBytes + 16) + (2 * experts + 4) * 4;
}

/// One tile of the result.
struct Tile {
  int expert;
  int row, rowEnd; // in the rows of x by rows, else in an expert's matrix
  int column;
  int k, kEnd;  // what is contracted
  bool sharesB; // the blocks of a cluster have one expert and column, else one expert and row
  bool none;    // nothing to do for any block of the cluster
};

/// The groups' first rows and first units. A unit is a tile for each block of a cluster.
struct Groups {
  int *row, *unit;
};

template <GroupedProduct P>
constexpr bool kByRows = P != GroupedProduct::ByWeight;

template <int Cluster>
__device__ int columnUnits(int columns) {
  return (columns + kTileN * Cluster - 1) / (kTileN * Cluster);
}

/// Fills in the groups and the end of all units, by all threads. The group after the last expert
/// has the rows that no expert has.
template <GroupedProduct P, int Cluster>
__device__ void findGroups(const Arguments &args, Groups groups) {
  int32_t *sizes = groups.unit; // until the units are known
  for (int i = threadIdx.x; i < args.experts; i += kBlock)
    sizes[i] = args.sizes[i];
  __syncthreads();
  if (threadIdx.x >= 32)
    return;
  int64_t before = 0;
  int across = columnUnits<Cluster>(args.columns);
  visitGroups(sizes, args.experts, args.rows,
              [&](int64_t expert, int64_t begin, int64_t end, bool valid) {
                int64_t height = kByRows<P> ? end - begin : expert < args.experts ? args.height : 0;
                int64_t units = valid ? (height + kTileM - 1) / kTileM * across : 0;
                int64_t after = before + warpScan(units);
                if (valid) {
                  groups.row[expert] = static_cast<int>(begin);
                  groups.unit[expert] = static_cast<int>(after - units);
                }
                before = __shfl_sync(kFullWarp, after, 31);
              });
  if (threadIdx.x == 0) {
    groups.row[args.experts + 1] = args.rows;
    groups.unit[args.experts + 1] = static_cast<int>(before);
  }
}

/// The tile of block `rank` in a unit of a group. Units go down bands of about args.band tiles of
/// rows, then to the next columns, so that what one wave of blocks fetches is small and stays in
/// L2. With clusters, two columns of tiles make a column of units: pairs of rows by the first
/// column, by the second, then an odd row by both.
template <GroupedProduct P, int Cluster>
__device__ Tile tileOf(const Arguments &args, Groups groups, int group, int unit, int rank) {
  int begin = groups.row[group], end = groups.row[group + 1];
  int height = kByRows<P> ? end - begin : args.height;
  int tiles = (height + kTileM - 1) / kTileM, across = columnUnits<Cluster>(args.columns);
  int bands = max(1, (tiles + args.band / 2) / args.band);
  int band = ((tiles + bands - 1) / bands + 1) / 2 * 2;
  unit -= groups.unit[group];
  int first = unit / (band * across) * band;
  int high = min(band, tiles - first);
  unit -= first * across;
  int column = unit / high, down = unit % high;
  bool sharesB = true;
  if constexpr (Cluster == 2) {
    int pairs = high / 2;
    column *= 2;
    if (down < 2 * pairs) {
      column += down >= pairs;
      down = down % pairs * 2 + rank;
    } else {
      column += rank;
      sharesB = false;
    }
  }
  Tile tile;
  tile.expert = group;
  tile.row = (kByRows<P> ? begin : 0) + (first + down) * kTileM;
  tile.rowEnd = kByRows<P> ? end : args.height;
  tile.column = column * kTileN;
  tile.k = kByRows<P> ? 0 : begin;
  tile.kEnd = !kByRows<P> ? end : group < args.experts ? args.depth : 0;
  tile.sharesB = sharesB;
  tile.none = sharesB && tile.column >= args.columns;
  return tile;
}

/// Calls body(tile) for the block's tiles in order.
template <GroupedProduct P, int Cluster, typename Body>
__device__ __forceinline__ void forTiles(const Arguments &args, Groups groups, const Body &body) {
  int rank = Cluster == 1 ? 0 : static_cast<int>(hopper::blockInCluster());
  int units = groups.unit[args.experts + 1], group = 0;
  for (int unit = blockIdx.x / Cluster; unit < units; unit += gridDim.x / Cluster) {
    while (unit >= groups.unit[group + 1])
      ++group;
    Tile tile = tileOf<P, Cluster>(args, groups, group, unit, rank);
    if (!tile.none)
      body(tile);
  }
}

/// The stages in shared memory, each with a barrier that waits for its bytes and one that waits for
/// all who read them.
struct Ring {
  uint32_t memory, barriers;
  int stage = 0;
  uint32_t parity = 0;

  __device__ uint32_t full() const { return barriers + stage * 16; }
  __device__ uint32_t empty() const { return full() + 8; }
  __device__ uint32_t a() const { return memory + stage * kStageBytes; }
  __device__ uint32_t b() const { return a() + kBytesA; }
  __device__ void advance() {
    stage = stage + 1 == kStages ? 0 : stage + 1;
    parity ^= stage == 0;
  }
};

/// Fetches half of A (64 rows) for the contraction from k.
template <GroupedProduct P, typename Load>
__device__ void loadA(const Tile &tile, int k, int half, uint32_t to, const Load &load) {
  int row = tile.row + half * 64;
  load(to + half * kBoxBytes, kByRows<P> ? hopper::Box{k, row, 0} : hopper::Box{row, k, 0});
}

/// Fetches half of B (128 columns).
template <GroupedProduct P, typename Load>
__device__ void loadB(const Tile &tile, int k, int half, uint32_t to, const Load &load) {
  int column = tile.column + half * 128, expert = kByRows<P> ? tile.expert : 0;
  to += half * 2 * kBoxBytes;
  if constexpr (P == GroupedProduct::Forward) {
    load(to, hopper::Box{k, column, expert});
  } else {
    load(to, hopper::Box{column, k, expert});
    load(to + kBoxBytes, hopper::Box{column + 64, k, expert});
  }
}

/// Fetches all stages of all tiles; one thread calls it.
template <GroupedProduct P, int Cluster>
__device__ void produce(const Arguments &args, const CUtensorMap &a, const CUtensorMap &b,
                        Groups groups, Ring ring) {
  int rank = Cluster == 1 ? 0 : static_cast<int>(hopper::blockInCluster());
  forTiles<P, Cluster>(args, groups, [&](const Tile &tile) {
    for (int k = tile.k; k < tile.kEnd; k += kTileK, ring.advance()) {
      hopper::wait(ring.empty(), ring.parity ^ 1);
      hopper::arriveExpecting(ring.full(), kStageBytes);
      auto loader = [&](const CUtensorMap &map, bool shared) {
        return [&map, &ring, shared](uint32_t to, hopper::Box at) {
          if (Cluster > 1 && shared)
            hopper::loadInto((1 << Cluster) - 1, to, map, at, ring.full());
          else
            hopper::load(to, map, at, ring.full());
        };
      };
      bool sharesA = Cluster > 1 && !tile.sharesB, sharesB = Cluster > 1 && tile.sharesB;
      for (int half = 0; half < 2; ++half) {
        if (!sharesA || half == rank)
          loadA<P>(tile, k, half, ring.a(), loader(a, sharesA));
        if (!sharesB || half == rank)
          loadB<P>(tile, k, half, ring.b(), loader(b, sharesB));
      }
    }
  });
}

/// Tells all who fetch into this stage that this warp has read it.
template <int Cluster>
__device__ __forceinline__ void release(const Ring &ring) {
  int lane = threadIdx.x % 32;
  if constexpr (Cluster == 1) {
    if (lane == 0)
      hopper::arrive(ring.empty());
  } else if (lane < Cluster) {
    hopper::arriveAt(ring.empty(), lane);
  }
}

/// Zeroes the rows from `rows` on of both operands in a stage, by the warpgroups that multiply.
__device__ __forceinline__ void clearRows(const Ring &ring, int rows) {
  constexpr int kPacks = kLine / 16, kThreads = kConsumers * kWarpgroup;
  int thread = threadIdx.x - kWarpgroup, packs = (kTileK - rows) * kPacks;
  for (int box = 0; box < kStageBytes / kBoxBytes; ++box)
    for (int i = thread; i < packs; i += kThreads) {
      uint32_t at = ring.a() + box * kBoxBytes + rows * kLine + i * 16;
      asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
    }
  hopper::fenceAsyncProxy();
  hopper::syncNamed(1, kThreads);
}

/// Sums [64, 256] of a tile: the rows of warpgroup `half` of it.
template <GroupedProduct P, int Cluster>
__device__ __forceinline__ void multiply(float (&sums)[128], const Tile &tile, int half,
                                         Ring &ring) {
  constexpr bool kAcrossA = !kByRows<P>, kAcrossB = P != GroupedProduct::Forward;
  // A contraction of 16 is 32 bytes along a line, or 16 lines.
  constexpr uint64_t kStepA = (kAcrossA ? 16 * kLine : 32) >> 4;
  constexpr uint64_t kStepB = (kAcrossB ? 16 * kLine : 32) >> 4;
  Ring read = ring;
  for (int k = tile.k; k < tile.kEnd; k += kTileK) {
    hopper::wait(ring.full(), ring.parity);
    if (!kByRows<P> && tile.kEnd - k < kTileK)
      clearRows(ring, tile.kEnd - k);
    uint64_t a = hopper::describe(ring.a() + half * kBoxBytes, kBoxBytes);
    uint64_t b = hopper::describe(ring.b(), kBoxBytes);
    hopper::fenceProducts();
#pragma unroll
    for (int i = 0; i < 4; ++i)
      hopper::multiply64x256<kAcrossA, kAcrossB>(sums, a + i * kStepA, b + i * kStepB,
                                                 k > tile.k || i > 0);
    hopper::commitProducts();
    if (k > tile.k) {
      hopper::waitProducts<1>();
      release<Cluster>(read);
      read.advance();
    }
    ring.advance();
  }
  hopper::waitProducts<0>();
  if (tile.k < tile.kEnd)
    release<Cluster>(read);
}

/// Leaves out what a warpgroup without rows need not multiply.
template <int Cluster>
__device__ __forceinline__ void skip(const Tile &tile, Ring &ring) {
  for (int k = tile.k; k < tile.kEnd; k += kTileK) {
    hopper::wait(ring.full(), ring.parity);
    release<Cluster>(ring);
    ring.advance();
  }
}

/// Exchanges packs of two among four lanes, so that lane i has the i-th of each.
__device__ __forceinline__ uint4 transposeQuad(const uint32_t (&v)[4]) {
  bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
  uint32_t x = __shfl_xor_sync(kFullWarp, odd ? v[0] : v[1], 1);
  uint32_t y = __shfl_xor_sync(kFullWarp, odd ? v[2] : v[3], 1);
  uint32_t t[4] = {odd ? x : v[0], odd ? v[1] : x, odd ? y : v[2], odd ? v[3] : y};
  x = __shfl_xor_sync(kFullWarp, high ? t[0] : t[2], 2);
  y = __shfl_xor_sync(kFullWarp, high ? t[1] : t[3], 2);
  return high ? uint4{x, y, t[2], t[3]} : uint4{t[0], t[1], x, y};
}

/// The epilogue: rounds sums and stores them.
template <typename C>
struct Store {
  C *result;
  int stride;

  /// Sums as multiply64x256 leaves them, of rows from `row` and columns from `column`; what is past
  /// the ends is not stored. `result` begins at the expert's first row 0.
  __device__ __forceinline__ void operator()(const float (&sums)[128], int64_t firstRow, int row,
                                             int rowEnd, int column) const {
    int thread = threadIdx.x % kWarpgroup, lane = thread % 32;
    row += thread / 32 * 16 + lane / 4;
#pragma unroll
    for (int h = 0; h < 2; ++h, row += 8) {
      C *line = result + (firstRow + row) * stride;
#pragma unroll
      for (int i = 0; i < 32; i += 4) {
        if constexpr (sizeof(C) == 2) {
          uint32_t packs[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            __nv_bfloat162 pack =
                __floats2bfloat162_rn(sums[(i + j) * 4 + h * 2], sums[(i + j) * 4 + h * 2 + 1]);
            packs[j] = *reinterpret_cast<uint32_t *>(&pack);
          }
          uint4 whole = transposeQuad(packs);
          int at = column + (i + lane % 4) * 8;
          if (row < rowEnd && at < stride)
            *reinterpret_cast<uint4 *>(line + at) = whole;
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            int at = column + (i + j) * 8 + lane % 4 * 2;
            if (row < rowEnd && at < stride)
              *reinterpret_cast<float2 *>(line + at) = {sums[(i + j) * 4 + h * 2],
                                                        sums[(i + j) * 4 + h * 2 + 1]};
          }
        }
      }
    }
  }
};

/// Multiplies and stores the rows of warpgroup `half` of all tiles.
template <GroupedProduct P, int Cluster, typename Epilogue>
__device__ __forceinline__ void consume(const Arguments &args, const Epilogue &epilogue,
                                        Groups groups, int half, Ring ring) {
  forTiles<P, Cluster>(args, groups, [&](const Tile &tile) {
    float sums[128];
    int row = tile.row + half * 64;
    if (kByRows<P> && (row >= tile.rowEnd || tile.column >= args.columns)) {
      skip<Cluster>(tile, ring);
      return;
    }
    if (tile.k >= tile.kEnd)
#pragma unroll
      for (float &sum : sums)
        sum = 0;
    multiply<P, Cluster>(sums, tile, half, ring);
    int64_t firstRow = kByRows<P> ? 0 : static_cast<int64_t>(tile.expert) * args.height;
    epilogue(sums, firstRow, row, tile.rowEnd, tile.column);
  });
}

template <GroupedProduct P, int Cluster, typename Epilogue>
__global__ __launch_bounds__(kBlock, 1) void hopperKernel(
    [[maybe_unused]] const __grid_constant__ CUtensorMap a,
    [[maybe_unused]] const __grid_constant__ CUtensorMap b, [[maybe_unused]] const Arguments args,
    [[maybe_unused]] const Epilogue epilogue) {
#ifdef SWITCHYARD_HOPPER
  extern __shared__ __align__(1024) unsigned char memory[];
  Ring ring;
  ring.memory = hopper::sharedAddress(memory);
  ring.barriers = ring.memory + kStages * kStageBytes;
  auto *tables = reinterpret_cast<int *>(memory + kStages * (kStageBytes + 16));
  Groups groups{tables, tables + args.experts + 2};
  if (threadIdx.x == kWarpgroup) {
    hopper::prefetchMap(a);
    hopper::prefetchMap(b);
    for (int i = 0; i < kStages; ++i, ring.advance()) {
      hopper::initBarrier(ring.full(), 1);
      hopper::initBarrier(ring.empty(), Cluster * kConsumers * kWarpgroup / 32);
    }
    hopper::fenceBarrierInit();
  }
  ring.stage = 0;
  ring.parity = 0;
  findGroups<P, Cluster>(args, groups);
  __syncthreads();
  if constexpr (Cluster > 1)
    hopper::syncCluster();

  // One branch with constant counts: else the compiler ignores them.
  if (threadIdx.x < kWarpgroup) {
    hopper::lowerRegisters<24>();
    if (threadIdx.x == 0)
      produce<P, Cluster>(args, a, b, groups, ring);
    __syncwarp();
  } else {
    hopper::raiseRegisters<240>();
    consume<P, Cluster>(args, epilogue, groups, static_cast<int>(threadIdx.x) / kWarpgroup - 1,
                        ring);
  }
  if constexpr (Cluster > 1)
    hopper::syncCluster(); // no block leaves while another writes to it
#else
  __trap(); // runsOnHopper does not let it come here
#endif
}

template <GroupedProduct P, typename C>
constexpr auto *kKernel = hopperKernel<P, kCluster, Store<C>>;

/// The driver's function that describes a tensor to the copy engine, or null.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  void *function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                       cudaEnableDefault, &found);
#else
  cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess)
    return nullptr;
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

/// A dense bfloat16 tensor [planes, lines, width] for boxes of 64 along its lines by `boxLines`.
Fault describeTensor(CUtensorMap &map, void *data, int64_t planes, int64_t lines, int64_t width,
                     unsigned boxLines) {
  auto *encode = encoder();
  if (!encode)
    return "the driver has no cuTensorMapEncodeTiled; CUDA 12 or newer has";
  cuuint64_t dims[3] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(lines),
                        static_cast<cuuint64_t>(planes)};
  cuuint64_t strides[2] = {dims[0] * 2, dims[0] * dims[1] * 2};
  cuuint32_t box[3] = {64, boxLines, 1}, steps[3] = {1, 1, 1};
  CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, data, dims, strides, box,
                           steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    return "cuTensorMapEncodeTiled: error " + std::to_string(result) + " for a tensor [" +
           std::to_string(planes) + ", " + std::to_string(lines) + ", " + std::to_string(width) +
           "]";
  return std::nullopt;
}

/// Enqueues a kernel on clusters of two blocks that fill the device.
template <GroupedProduct P, typename C>
Fault enqueue(const Launch &launch, const CUtensorMap &a, const CUtensorMap &b,
              const Arguments &args, void *result) {
  int device = 0, processors = 0;
  if (auto fault = faultOf(cudaGetDevice(&device), "cudaGetDevice"))
    return fault;
  if (auto fault =
          faultOf(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
                  "cudaDeviceGetAttribute"))
    return fault;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(processors / kCluster * kCluster));
  config.blockDim = dim3(kBlock);
  config.dynamicSmemBytes = static_cast<size_t>(sharedBytes(args.experts));
  config.stream = contextOf(launch).stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  Store<C> store{static_cast<C *>(result), args.columns};
  return faultOf(cudaLaunchKernelEx(&config, kKernel<P, C>, a, b, args, store),
                 "launching the grouped GEMM of sm_90a");
}

template <GroupedProduct P, typename C>
Fault raiseShared() {
  return faultOf(cudaFuncSetAttribute(kKernel<P, C>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      sharedBytes(kMaxExperts)),
                 "cudaFuncSetAttribute");
}

/// Whether the current device runs code of sm_90a, and this build has it.
bool hasHopper() {
  int device = 0, major = 0;
  cudaFuncAttributes attributes{};
  bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaFuncGetAttributes(&attributes, kKernel<GroupedProduct::Forward, BFloat16>) == cudaSuccess;
  return known && major == 9 && attributes.ptxVersion >= 90;
}

} // namespace

Fault prepareGroupedGemmHopper() {
  if (!hasHopper())
    return std::nullopt;
  if (auto fault = raiseShared<GroupedProduct::Forward, BFloat16>())
    return fault;
  if (auto fault = raiseShared<GroupedProduct::ByData, BFloat16>())
    return fault;
  if (auto fault = raiseShared<GroupedProduct::ByWeight, BFloat16>())
    return fault;
  return raiseShared<GroupedProduct::ByWeight, float>();
}

bool runsOnHopper(const Launch &launch) {
  const Tensor &a = launch.operands[0], &b = launch.operands[1], &c = launch.operands[3];
  constexpr int64_t kMost = int64_t{1} << 30;
  int64_t experts = launch.operands[2].dims[0];
  bool fits = experts <= kMaxExperts && a.dims[0] < kMost;
  for (const Tensor *tensor : {&a, &b, &c}) {
    int64_t width = tensor->dims[tensor->rank - 1];
    fits = fits && width % 8 == 0 && width < kMost && tensor->count() > 0;
  }
  // Units are counted in 32 bits.
  int64_t most = mostTiles(experts, c.count() / c.dims[c.rank - 1], kTileM);
  fits = fits && most * (ceilDivide(c.dims[c.rank - 1], kTileN) + 1) < kMost;
  return fits && a.dtype == DType::BF16 && isAligned({a.data, b.data, c.data}) && hasHopper();
}

Fault runGroupedGemmHopper(const Launch &launch, GroupedProduct product) {
  const Tensor &a = launch.operands[0], &b = launch.operands[1], &c = launch.operands[3];
  bool byRows = product != GroupedProduct::ByWeight;
  int64_t rows = a.dims[0], across = b.dims[b.rank - 1];
  Arguments args{};
  args.sizes = launch.operands[2].as<int32_t>();
  args.rows = static_cast<int>(rows);
  args.experts = static_cast<int>(launch.operands[2].dims[0]);
  args.height = byRows ? 0 : static_cast<int>(c.dims[1]);
  args.columns = static_cast<int>(c.dims[c.rank - 1]);
  args.depth = byRows ? static_cast<int>(a.dims[1]) : 0;
  args.band = 16;
  CUtensorMap mapA, mapB;
  if (auto fault = describeTensor(mapA, a.data, 1, rows, a.dims[1], 64))
    return fault;
  auto fault = byRows ? describeTensor(mapB, b.data, b.dims[0], b.dims[1], across,
                                       product == GroupedProduct::Forward ? 128 : 64)
                      : describeTensor(mapB, b.data, 1, rows, across, 64);
  if (fault)
    return fault;
  switch (product) {
  case GroupedProduct::Forward:
    return enqueue<GroupedProduct::Forward, BFloat16>(launch, mapA, mapB, args, c.data);
  case GroupedProduct::ByData:
    return enqueue<GroupedProduct::ByData, BFloat16>(launch, mapA, mapB, args, c.data);
  case GroupedProduct::ByWeight:
    break;
  }
  return c.dtype == DType::F32
             ? enqueue<GroupedProduct::ByWeight, float>(launch, mapA, mapB, args, c.data)
             : enqueue<GroupedProduct::ByWeight, BFloat16>(launch, mapA, mapB, args, c.data);
}

} // namespace switchyard::kernels::cuda
