// Grouped GEMM with what sm_90a has for it: tiles fetched by the copy engine into a ring of stages
// in shared memory, multiplied by warpgroups (wgmma) out of it.
//
// As many blocks as the device has multiprocessors stay for the whole launch. In each, one thread
// fetches and two warpgroups multiply, each half of a tile's 128 rows by its 256 columns; the next
// tile is being fetched while a result is stored. Group sizes stay on the device: every block finds
// its tiles from them. Blocks take tiles in order as they get free, so that those that share what
// they fetch run at the same time and find it in L2. Which block computes a tile does not change
// it.
//
// Rows of another group may be fetched with a group's last ones: for the result by rows they are
// not stored; where rows are contracted (by weight), they are zeroed in shared memory.
//
// Seen on an H200 (TFLOP/s in bfloat16, medians of 10, random routing, gate and up together):
//
//                      T = 4,096                    T = 16,384
//                      forward  by data  by weight  forward  by data  by weight
//   Mixtral-8x7B       687      633      656        654      600      651
//   OLMoE-1B-7B        630      618      494        718      676      659
//   Qwen3-30B-A3B      530      532      397        619      596      639
//
// In the same run cuBLASLt had 795 in a dense product of 8,192^3, and torch 2.11's _grouped_mm took
// 0.91 to 1.48 times as long as these, down's products and T = 512 and 32,768 included. By weight
// into float32, which torch has not, is 0 to 50% slower than into bfloat16: it writes twice the
// bytes.
#include "kernels/cuda/GroupedGemmGated.cuh"
#include "kernels/cuda/TensorMap.h"

namespace switchyard::kernels::cuda {
namespace {

using namespace grouped;

/// What the threads of a block share, ready for use.
struct Parts {
  Ring ring;
  Queue queue;
  Groups groups;
};

template <GroupedProduct P>
__device__ Parts setUp(unsigned char *memory, const Arguments &args, const CUtensorMap &a,
                       const CUtensorMap &b) {
  using Layout = Shared<P>;
  constexpr int kMultiplying = kConsumers * kWarps;
  constexpr int kTaking = kMultiplying + (kIsGated<P> ? kStoringWarps : 0); // tiles of the queue
  Parts parts;
  parts.ring.memory = hopper::sharedAddress(memory);
  parts.ring.barriers = parts.ring.memory + Layout::kBarriersAt;
  parts.queue.memory = parts.ring.memory + Layout::kQueueAt;
  parts.queue.barriers = parts.ring.barriers + kStages * 16;
  auto *tables = reinterpret_cast<int *>(memory + Layout::kTablesAt);
  parts.groups = {tables, tables + args.experts + 2};
  if (threadIdx.x == kWarpgroup) {
    hopper::prefetchMap(a);
    hopper::prefetchMap(b);
    for (int i = 0; i < kStages + kSlots + Layout::kHandovers; ++i) {
      int readers = i < kStages ? kMultiplying : i < kStages + kSlots ? kTaking : 1;
      hopper::initBarrier(parts.ring.barriers + i * 16, 1);
      hopper::initBarrier(parts.ring.barriers + i * 16 + 8, readers);
    }
    hopper::fenceBarrierInit();
  }
  findGroups<P>(args, parts.groups);
  __syncthreads();
  return parts;
}

template <GroupedProduct P, typename Epilogue>
__global__ __launch_bounds__(kBlock, 1) void hopperKernel(
    [[maybe_unused]] const __grid_constant__ CUtensorMap a,
    [[maybe_unused]] const __grid_constant__ CUtensorMap b, [[maybe_unused]] const Arguments args,
    [[maybe_unused]] const Epilogue epilogue) {
#ifdef SWITCHYARD_HOPPER
  extern __shared__ __align__(1024) unsigned char memory[];
  auto [ring, queue, groups] = setUp<P>(memory, args, a, b);
  int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  // One branch with constant counts: else the compiler ignores them.
  if (warpgroup == 0) {
    hopper::lowerRegisters<kIsGated<P> ? 104 : 40>();
    if (threadIdx.x == 0)
      produce<P>(args, a, b, groups, ring, queue);
    if constexpr (kIsGated<P>)
      if (threadIdx.x >= 32)
        storeGated<P>(args, epilogue, groups, ring, queue);
  } else {
    hopper::raiseRegisters<kIsGated<P> ? 200 : 232>();
    if constexpr (kIsGated<P>)
      consumeGated<P>(args, groups, warpgroup - 1, ring, queue);
    else
      consume<P>(args, epilogue, groups, warpgroup - 1, ring, queue);
  }
#else
  __trap(); // runsOnHopper does not let it come here
#endif
}

/// Describes a dense tensor [planes, lines, width], of which a copy moves 64 by `boxLines`.
Fault describePlanes(CUtensorMap &map, const void *data, int64_t planes, int64_t lines,
                     int64_t width, int64_t boxLines) {
  return describeTensor(map, DType::BF16, data, {width, lines, planes},
                        {width * 2, width * lines * 2}, {64, boxLines, 1});
}

/// Enqueues a kernel on as many blocks as the device has multiprocessors.
template <GroupedProduct P, typename Epilogue>
Fault enqueue(const Launch &launch, const CUtensorMap &a, const CUtensorMap &b,
              const Arguments &args, const Epilogue &epilogue) {
  int device = 0, processors = 0;
  if (auto fault = faultOf(cudaGetDevice(&device), "cudaGetDevice"))
    return fault;
  if (auto fault =
          faultOf(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
                  "cudaDeviceGetAttribute"))
    return fault;
  cudaStream_t stream = contextOf(launch).stream;
  if (auto fault =
          faultOf(cudaMemsetAsync(args.taken, 0, sizeof *args.taken, stream), "cudaMemsetAsync"))
    return fault;
  hopperKernel<P, Epilogue>
      <<<static_cast<unsigned>(processors), kBlock,
         static_cast<size_t>(Shared<P>::bytes(args.experts)), stream>>>(a, b, args, epilogue);
  return launchFault("grouped GEMM of sm_90a");
}

template <GroupedProduct P, typename Epilogue>
Fault raiseShared() {
  return faultOf(cudaFuncSetAttribute(hopperKernel<P, Epilogue>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      Shared<P>::bytes(Shared<P>::kMaxExperts)),
                 "cudaFuncSetAttribute");
}

/// Whether the current device runs code of sm_90a, and this build has it.
bool hasHopper() {
  int device = 0, major = 0;
  cudaFuncAttributes attributes{};
  bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaFuncGetAttributes(&attributes, hopperKernel<GroupedProduct::Forward, Store<BFloat16>>) ==
          cudaSuccess;
  return known && major == 9 && attributes.ptxVersion >= 90;
}

/// How many columns of y are covered by the smallest tiles.
constexpr int kFewestColumns = kTileColumns<GroupedProduct::Gated>;

constexpr int maxExperts(GroupedProduct product) {
  bool isGated = product == GroupedProduct::Gated || product == GroupedProduct::ByDataGated;
  return isGated ? Shared<GroupedProduct::Gated>::kMaxExperts
                 : Shared<GroupedProduct::Forward>::kMaxExperts;
}

/// What an expert's matrices are read by: boxes of so many lines.
constexpr int64_t linesOfBox(GroupedProduct product) {
  return product == GroupedProduct::Forward ? kBoxColumns<GroupedProduct::Forward>
         : product == GroupedProduct::Gated ? kBoxColumns<GroupedProduct::Gated>
                                            : 64;
}

} // namespace

Fault prepareGroupedGemmHopper() {
  if (!hasHopper())
    return std::nullopt;
  if (auto fault = raiseShared<GroupedProduct::Forward, Store<BFloat16>>())
    return fault;
  if (auto fault = raiseShared<GroupedProduct::ByData, Store<BFloat16>>())
    return fault;
  if (auto fault = raiseShared<GroupedProduct::Gated, GatedStore>())
    return fault;
  if (auto fault = raiseShared<GroupedProduct::ByDataGated, GatedGradStore>())
    return fault;
  if (auto fault = raiseShared<GroupedProduct::ByWeight, Store<BFloat16>>())
    return fault;
  return raiseShared<GroupedProduct::ByWeight, Store<float>>();
}

bool runsOnHopper(const Launch &launch, GroupedProduct product) {
  const Tensor &a = launch.operands[0], &c = launch.operands.back();
  constexpr int64_t kMost = int64_t{1} << 30;
  int64_t experts = launch.operands[2].dims[0];
  bool fits = a.dtype == DType::BF16 && experts <= maxExperts(product) && a.dims[0] < kMost;
  for (const Tensor &tensor : launch.operands) {
    if (tensor.dtype == DType::I32)
      continue;
    int64_t width = tensor.dims[tensor.rank - 1];
    fits =
        fits && width % 8 == 0 && width < kMost && tensor.count() > 0 && isAligned({tensor.data});
  }
  // Tiles are counted in 32 bits.
  int64_t most = mostTiles(experts, c.count() / c.dims[c.rank - 1], kTileM);
  fits = fits && most * (ceilDivide(c.dims[c.rank - 1], kFewestColumns) + 1) < kMost;
  return fits && hasHopper();
}

Fault runGroupedGemmHopper(const Launch &launch, GroupedProduct product) {
  const Tensor &a = launch.operands[0], &b = launch.operands[1], &c = launch.operands.back();
  bool byRows = product != GroupedProduct::ByWeight;
  int64_t rows = a.dims[0], across = b.dims[b.rank - 1];
  Arguments args{};
  args.sizes = launch.operands[2].as<int32_t>();
  args.taken = reinterpret_cast<int *>(launch.workspace.data());
  args.rows = static_cast<int>(rows);
  args.experts = static_cast<int>(launch.operands[2].dims[0]);
  args.height = byRows ? 0 : static_cast<int>(c.dims[1]);
  args.columns = static_cast<int>(c.dims[c.rank - 1]);
  args.depth = byRows ? static_cast<int>(a.dims[1]) : 0;
  CUtensorMap mapA, mapB;
  if (auto fault = describePlanes(mapA, a.data, 1, rows, a.dims[1], 64))
    return fault;
  auto fault = byRows
                   ? describePlanes(mapB, b.data, b.dims[0], b.dims[1], across, linesOfBox(product))
                   : describePlanes(mapB, b.data, 1, rows, across, 64);
  if (fault)
    return fault;
  auto *result = c.as<BFloat16>();
  switch (product) {
  case GroupedProduct::Forward:
    return enqueue<GroupedProduct::Forward>(launch, mapA, mapB, args,
                                            Store<BFloat16>{result, args.columns});
  case GroupedProduct::ByData:
    return enqueue<GroupedProduct::ByData>(launch, mapA, mapB, args,
                                           Store<BFloat16>{result, args.columns});
  case GroupedProduct::Gated:
    return enqueue<GroupedProduct::Gated>(
        launch, mapA, mapB, args,
        GatedStore{launch.operands[3].as<BFloat16>(), result, args.columns});
  case GroupedProduct::ByDataGated:
    return enqueue<GroupedProduct::ByDataGated>(launch, mapA, mapB, args,
                                                GatedGradStore{launch.operands[3].as<BFloat16>(),
                                                               launch.operands[4].as<BFloat16>(),
                                                               result, args.columns});
  case GroupedProduct::ByWeight:
    break;
  }
  if (c.dtype == DType::F32)
    return enqueue<GroupedProduct::ByWeight>(launch, mapA, mapB, args,
                                             Store<float>{c.as<float>(), args.columns});
  return enqueue<GroupedProduct::ByWeight>(launch, mapA, mapB, args,
                                           Store<BFloat16>{result, args.columns});
}

} // namespace switchyard::kernels::cuda
