// Grouped GEMM with what sm_90a has for it: tiles fetched by the copy engine into a ring of stages
// in shared memory, multiplied by warpgroups (wgmma) out of it, stored by warps of their own.
//
// As many blocks as the device has multiprocessors stay for the whole launch, two a cluster. In
// each, a warp fetches, or two; two warpgroups multiply, each half of a tile's 128 rows by its 256
// columns, or 128 of them where experts have few rows (kNarrow); further warps store, while the
// next tile is being multiplied. Group sizes stay on the device: each cluster adds them up once,
// and finds its tiles in that. Clusters take pairs of tiles in order as they get free, so that
// those that share what they fetch run at the same time and find it in L2. Which block computes a
// tile does not change it.
//
// Where rows are tokens that stand elsewhere (gathers), the warps that fetch copy their packs
// instead of the copy engine, which on sm_90 can't follow row numbers.
//
// Rows of another group may be fetched with a group's last ones: for the result by rows they are
// not stored; where rows are contracted (by weight), they are zeroed in shared memory.
//
// Seen on an H100 (TFLOP/s in bfloat16, medians of 10 and 8, random routing, gate and up together;
// torch 2.11's _grouped_mm took 0.89 to 1.59 times as long in the 144 products of six models, less
// in four of them):
//
//                      T = 4,096                    T = 16,384
//                      forward  by data  by weight  forward  by data  by weight
//   Mixtral-8x7B       760      622      719        731      735      681
//   OLMoE-1B-7B        662      661      616        758      758      756
//   Qwen3-30B-A3B      528      539      480        724      716      702
//
// In the same run cuBLASLt had 785 in a dense product of 8,192^3, and 775 in one of as many FLOPs
// as Mixtral's 4,096 tokens.
#include "kernels/cuda/GroupedGemmGated.cuh"
#include "kernels/cuda/GroupedGemmHopper.h"
#include "kernels/cuda/Groups.cuh"
#include "kernels/cuda/TensorMap.h"

#include <algorithm>
#include <limits>
#include <set>

namespace switchyard::kernels::cuda {
namespace {

using namespace grouped;

/// What the threads of a block share, ready for use.
template <typename K>
struct Parts {
  Ring<K> ring;
  Queue queue;
  GroupTable table; // in the cluster's first block
};

template <typename K>
__device__ Parts<K> setUp(unsigned char *memory, const CUtensorMap &a, const CUtensorMap &b,
                          const Arguments &args) {
  using Layout = Shared<K>;
  constexpr int kMultiplying = kConsumers * kWarps;
  constexpr int kTaking = kMultiplying + K::kFetching + K::kAnnouncing + K::kStoring;
  Parts<K> parts;
  parts.ring.memory = hopper::sharedAddress(memory);
  parts.ring.barriers = parts.ring.memory + Layout::kBarriersAt;
  parts.queue.memory = parts.ring.memory + Layout::kQueueAt;
  parts.queue.barriers = parts.ring.barriers + Layout::kSlotBarrier * 16;
  parts.table.memory = parts.ring.memory + Layout::kTableAt;
  if (threadIdx.x < 32 && hopper::clusterRank() == 0)
    parts.table.template fill<K>(args);
  if (threadIdx.x == kWarpgroup) {
    hopper::prefetchMap(a);
    hopper::prefetchMap(b);
    auto init = [&](int first, int count, int writers, int readers) {
      for (int i = first; i < first + count; ++i) {
        hopper::initBarrier(parts.ring.barriers + i * 16, writers);
        hopper::initBarrier(parts.ring.barriers + i * 16 + 8, readers);
      }
    };
    init(0, K::kStages, 1 + K::kAnnouncing, kMultiplying * kCluster);
    init(K::kStages, K::kStages, K::kFetching * 32, 1);
    init(Layout::kSlotBarrier, kSlots, 1, kTaking * kCluster);
    init(Layout::kHandoverBarrier, Layout::kHandovers, 1, 1);
    for (int i = 0; i < Layout::kHandovers; ++i)
      hopper::storeShared(parts.ring.barriers + (Layout::kNumber + i) * 16, 0U);
    hopper::fenceBarrierInit();
  }
  hopper::syncCluster(); // both blocks' barriers are ready
  return parts;
}

template <typename K>
__global__ __launch_bounds__(kBlock, 1) void hopperKernel(
    [[maybe_unused]] const __grid_constant__ CUtensorMap a,
    [[maybe_unused]] const __grid_constant__ CUtensorMap b, [[maybe_unused]] const Arguments args,
    [[maybe_unused]] const typename K::Epilogue epilogue) {
#ifdef SWITCHYARD_HOPPER
  extern __shared__ __align__(1024) unsigned char memory[];
  auto [ring, queue, table] = setUp<K>(memory, a, b, args);
  int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  // One branch with constant counts: else the compiler ignores them.
  if (warpgroup == 0) {
    hopper::lowerRegisters<K::kFewest>();
    int warp = static_cast<int>(threadIdx.x) / 32;
    if (warp < K::kFetching)
      produce<K>(args, a, b, ring, queue, table);
    else if (warp < K::kFetching + K::kAnnouncing)
      announce(ring, queue);
    else if constexpr (K::kHandsOver)
      store<K>(args, epilogue, warp - K::kFetching - K::kAnnouncing, ring, queue);
  } else {
    hopper::raiseRegisters<K::kMost>();
    if constexpr (K::kHandsOver)
      consume<K>(args, warpgroup - 1, ring, queue);
    else
      consumeAndStore<K>(args, epilogue, warpgroup - 1, ring, queue);
  }
  hopper::syncCluster(); // the other block arrives at barriers of this one until it ends
#else
  __trap(); // runsOnHopper does not let it come here
#endif
}

/// Describes a dense tensor [planes, lines, width], of which a copy moves 64 by `boxLines`.
Fault describePlanes(CUtensorMap &map, const Tensor &tensor, int64_t boxLines) {
  int64_t planes = tensor.rank == 3 ? tensor.dims[0] : 1, lines = tensor.dims[tensor.rank - 2];
  int64_t width = tensor.dims[tensor.rank - 1];
  return describeTensor(map, DType::BF16, tensor.data, {width, lines, planes},
                        {width * 2, width * lines * 2}, {64, boxLines, 1});
}

/// Up to so many tiles a block, and stages of them, clusters take turns: their counter would have
/// to be cleared before the launch, which takes longer than what it evens out. Where a tile has
/// many stages it does not: of Mixtral's gate_up by data, 4,096 tokens, the longest turn is 9.0
/// tiles of 448 stages, and 8.6 where clusters take the next pair as they get free.
constexpr int64_t kTilesInTurn = 16, kStagesInTurn = 512;

/// Enqueues a kernel on as many blocks as the device has multiprocessors.
template <typename K>
Fault enqueue(const Launch &launch, const GroupedOperands &operands,
              const typename K::Epilogue &epilogue) {
  const Tensor &c = operands.c;
  Arguments args{};
  args.sizes = operands.groupSizes.as<int32_t>();
  args.rows = static_cast<int>(operands.rows());
  args.experts = static_cast<int>(operands.groupSizes.dims[0]);
  args.height = K::kByRows ? 0 : static_cast<int>(c.dims[1]);
  args.columns = static_cast<int>(c.dims[c.rank - 1]);
  args.depth = K::kByRows ? static_cast<int>(operands.a.dims[1]) : 0;
  CUtensorMap a{}, b{};
  if constexpr (K::kGather != Gather::A)
    if (auto fault = describePlanes(a, operands.a, 64))
      return fault;
  if constexpr (K::kGather != Gather::B)
    if (auto fault = describePlanes(b, operands.b, K::kWeightAlongK ? K::kBoxColumns : 64))
      return fault;
  if constexpr (K::kGathers) {
    const Tensor &tokens = operands.gathered();
    args.tokens = {tokens.as<BFloat16>(), operands.tokens.as<int32_t>(),
                   static_cast<uint32_t>(tokens.dims[0]),
                   static_cast<uint32_t>(tokens.dims[1] / 8)};
  }
  int device = 0, processors = 0;
  if (auto fault = faultOf(cudaGetDevice(&device), "cudaGetDevice"))
    return fault;
  if (auto fault =
          faultOf(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
                  "cudaDeviceGetAttribute"))
    return fault;
  cudaStream_t stream = contextOf(launch).stream;
  int64_t rows = K::kByRows ? args.rows : int64_t{args.experts} * args.height;
  int64_t tiles = mostTiles(args.experts, rows, kTileM) * ceilDivide(args.columns, K::kTileColumns);
  int64_t stages = ceilDivide(K::kByRows ? args.depth : args.rows / args.experts, kTileK);
  if (tiles > kTilesInTurn * processors || tiles * stages > kStagesInTurn * processors) {
    args.taken = reinterpret_cast<int *>(launch.workspace.data());
    if (auto fault =
            faultOf(cudaMemsetAsync(args.taken, 0, sizeof *args.taken, stream), "cudaMemsetAsync"))
      return fault;
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(processors / kCluster * kCluster);
  config.blockDim = kBlock;
  config.dynamicSmemBytes = Shared<K>::kBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return faultOf(cudaLaunchKernelEx(&config, hopperKernel<K>, a, b, args, epilogue),
                 "grouped GEMM of sm_90a");
}

/// A line of the table of products by rows whose tiles have 128 columns: which operand they gather,
/// how many tiles of 256 a row of the result has, the most rows of an expert on average, and how
/// many times as fast that was on an H100 (experts of Granite, Qwen3, OLMoE and DeepSeek-V2-Lite;
/// those of Mixtral, which are few, 0.77 to 1.01 times). By weight it was slower everywhere.
struct Narrow {
  Gather gather;
  int64_t least, most, rows;
};
constexpr int64_t kFewestExperts = 32;
constexpr Narrow kNarrow[] = {
    {Gather::None, 3, 3, 512},  // 1.01 to 1.10: of pairs of tiles every other one has only one
    {Gather::None, 4, 16, 128}, // 0.99 to 1.10
    {Gather::A, 4, 16, 112},    // 1.01 to 1.10
};

bool isNarrow(GroupedProduct product, const GroupedOperands &o) {
  using P = GroupedProduct;
  int64_t experts = o.groupSizes.dims[0];
  if (product == P::ByWeight || product == P::ByDataGated || experts < kFewestExperts)
    return false;
  int64_t columns = o.c.dims[1] * (product == P::Gated ? 2 : 1), across = ceilDivide(columns, 256);
  return std::any_of(std::begin(kNarrow), std::end(kNarrow), [&](const Narrow &line) {
    return line.gather == o.gather && line.least <= across && across <= line.most &&
           o.rows() <= line.rows * experts;
  });
}

/// Calls body(K{}, epilogue) for the kernel of a product, and returns what it returns. `narrow`:
/// one with tiles of 128 columns, where there is one.
template <typename Body>
Fault withKind(GroupedProduct product, const GroupedOperands &o, bool narrow, const Body &body) {
  using P = GroupedProduct;
  auto width = static_cast<int>(o.c.dims[o.c.rank - 1]);
  auto *y = o.c.as<BFloat16>(), *gateUp = o.gateUp.as<BFloat16>();
  auto *dgateUp = o.dgateUp.as<BFloat16>();
  Store store{y, width, nullptr, 0};
  auto ofWidth = [&]<P Product, Gather G, typename E>(Kind<Product, G, E> wide, const E &epilogue) {
    return narrow ? body(Kind<Product, G, E, 128>{}, epilogue) : body(wide, epilogue);
  };
  auto byWeight = [&]<typename E>(const E &epilogue) -> Fault {
    switch (o.gather) {
    case Gather::A:
      return body(Kind<P::ByWeight, Gather::A, E>{}, epilogue);
    case Gather::B:
      return body(Kind<P::ByWeight, Gather::B, E>{}, epilogue);
    case Gather::None:
      break;
    }
    return body(Kind<P::ByWeight, Gather::None, E>{}, epilogue);
  };
  switch (product) {
  case P::Forward:
    return ofWidth(Kind<P::Forward, Gather::None, Store>{}, store);
  case P::ByData:
    return o.gather == Gather::A ? body(Kind<P::ByData, Gather::A, Store>{}, store)
                                 : ofWidth(Kind<P::ByData, Gather::None, Store>{}, store);
  case P::Gated: {
    GatedStore gated{gateUp, y, width};
    return o.gather == Gather::A ? ofWidth(Kind<P::Gated, Gather::A, GatedStore>{}, gated)
                                 : ofWidth(Kind<P::Gated, Gather::None, GatedStore>{}, gated);
  }
  case P::ByDataGated: {
    if (o.weights.rank == 0)
      return body(Kind<P::ByDataGated, Gather::None, GatedGradStore<false>>{},
                  GatedGradStore<false>{gateUp, dgateUp, y, width, {}});
    RowWeights rows{o.weights.data, o.weights.dtype == DType::BF16, o.dots,
                    static_cast<int>(ceilDivide(width, kColumnsOfPart))};
    return body(Kind<P::ByDataGated, Gather::None, GatedGradStore<true>>{},
                GatedGradStore<true>{gateUp, dgateUp, y, width, rows});
  }
  case P::ByWeight:
    break;
  }
  if (o.squares)
    return body(Kind<P::ByWeight, Gather::None, StoreRounded<true>>{},
                StoreRounded<true>{y, width, o.squares, static_cast<int>(o.c.dims[1])});
  if (o.accumulates)
    return o.c.dtype == DType::F32 ? byWeight(StoreSums<float, true>{o.c.as<float>(), width})
                                   : byWeight(StoreSums<BFloat16, true>{y, width});
  if (o.c.dtype == DType::F32)
    return byWeight(StoreSums<float, false>{o.c.as<float>(), width});
  return byWeight(store);
}

/// Whether the current device runs code of sm_90a, and this build has it.
bool hasHopper() {
  using Some = Kind<GroupedProduct::Forward, Gather::None, Store>;
  int device = 0, major = 0;
  cudaFuncAttributes attributes{};
  bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaFuncGetAttributes(&attributes, hopperKernel<Some>) == cudaSuccess;
  return known && major == 9 && attributes.ptxVersion >= 90;
}

/// The smallest tiles' columns.
constexpr int kFewestColumns =
    Kind<GroupedProduct::Gated, Gather::None, GatedStore, 128>::kTileColumns;

} // namespace

Fault prepareGroupedGemmHopper() {
  if (!hasHopper())
    return std::nullopt;
  using P = GroupedProduct;
  std::set<const void *> raised; // many of those below are the same kernel
  auto set = [&]<typename K>(K, const auto &) {
    auto *kernel = reinterpret_cast<const void *>(hopperKernel<K>);
    if (!raised.insert(kernel).second)
      return Fault();
    return faultOf(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        Shared<K>::kBytes),
                   "cudaFuncSetAttribute");
  };
  // `more`: weights of rows, or sums of squares.
  auto raise = [&](P product, DType dtype, Gather gather, bool more, bool accumulates) -> Fault {
    GroupedOperands operands;
    operands.accumulates = accumulates;
    operands.c.dtype = dtype;
    operands.c.rank = 1;
    operands.gather = gather;
    float none = 0;
    operands.weights.rank = more ? 1 : 0;
    operands.squares = more ? &none : nullptr;
    for (bool narrow : {false, true})
      if (auto fault = withKind(product, operands, narrow, set))
        return fault;
    return std::nullopt;
  };
  for (P product : {P::Forward, P::ByData, P::ByWeight, P::Gated, P::ByDataGated})
    for (DType dtype : {DType::BF16, DType::F32})
      for (Gather gather : {Gather::None, Gather::A, Gather::B})
        for (bool more : {false, true})
          if (auto fault = raise(product, dtype, gather, more, false))
            return fault;
  for (DType dtype : {DType::BF16, DType::F32})
    for (Gather gather : {Gather::None, Gather::A, Gather::B})
      if (auto fault = raise(P::ByWeight, dtype, gather, false, true))
        return fault;
  return std::nullopt;
}

bool runsOnHopper(GroupedProduct product, const GroupedOperands &operands) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const GroupedOperands &o = operands;
  // Of gathered tokens nobody wants the forward product without its activation.
  bool isBuilt = product != GroupedProduct::Forward || o.gather == Gather::None;
  bool fits = isBuilt && o.a.dtype == DType::BF16 && o.rows() < kMost;
  for (const Tensor *tensor : {&o.a, &o.b, &o.c, &o.gateUp, &o.dgateUp}) {
    if (tensor->rank == 0)
      continue; // this product has none
    int64_t width = tensor->dims[tensor->rank - 1];
    fits =
        fits && width % 8 == 0 && width < kMost && tensor->count() > 0 && isAligned({tensor->data});
  }
  // Tiles and packs of tokens are counted in 32 bits.
  int64_t experts = o.groupSizes.dims[0], columns = o.c.dims[o.c.rank - 1];
  int64_t most = mostTiles(experts, o.c.count() / columns, kTileM);
  fits = fits && most * (ceilDivide(columns, kFewestColumns) + 1) < kMost;
  if (o.gather != Gather::None)
    fits = fits && o.gathered().count() / 8 < std::numeric_limits<uint32_t>::max();
  return fits && hasHopper();
}

Fault runGroupedGemmHopper(const Launch &launch, GroupedProduct product,
                           const GroupedOperands &operands) {
  bool narrow = isNarrow(product, operands);
  return withKind(product, operands, narrow, [&]<typename K>(K, const auto &epilogue) {
    return enqueue<K>(launch, operands, epilogue);
  });
}

} // namespace switchyard::kernels::cuda
