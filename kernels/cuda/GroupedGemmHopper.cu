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
#include "kernels/cuda/GroupedGemmTiles.cuh"
#include "kernels/cuda/TensorMap.h"

namespace switchyard::kernels::cuda {
namespace {

using namespace grouped;

template <GroupedProduct P, typename Epilogue>
__global__ __launch_bounds__(kBlock, 1) void hopperKernel(
    [[maybe_unused]] const __grid_constant__ CUtensorMap a,
    [[maybe_unused]] const __grid_constant__ CUtensorMap b, [[maybe_unused]] const Arguments args,
    [[maybe_unused]] const Epilogue epilogue) {
#ifdef SWITCHYARD_HOPPER
  extern __shared__ __align__(1024) unsigned char memory[];
  Ring ring;
  ring.memory = hopper::sharedAddress(memory);
  ring.barriers = ring.memory + kBarriersAt;
  Queue queue;
  queue.memory = ring.memory + kQueueAt;
  queue.barriers = ring.barriers + kStages * 16;
  auto *tables = reinterpret_cast<int *>(memory + kTablesAt);
  Groups groups{tables, tables + args.experts + 2};
  if (threadIdx.x == kWarpgroup) {
    hopper::prefetchMap(a);
    hopper::prefetchMap(b);
    for (int i = 0; i < kStages + kSlots; ++i) {
      hopper::initBarrier(ring.barriers + i * 16, 1);
      hopper::initBarrier(ring.barriers + i * 16 + 8, kConsumers * kWarpgroup / 32);
    }
    hopper::fenceBarrierInit();
  }
  findGroups<P>(args, groups);
  __syncthreads();

  // One branch with constant counts: else the compiler ignores them.
  if (threadIdx.x < kWarpgroup) {
    hopper::lowerRegisters<40>();
    if (threadIdx.x == 0)
      produce<P>(args, a, b, groups, ring, queue);
  } else {
    hopper::raiseRegisters<232>();
    consume<P>(args, epilogue, groups, static_cast<int>(threadIdx.x) / kWarpgroup - 1, ring, queue);
  }
#else
  __trap(); // runsOnHopper does not let it come here
#endif
}

template <GroupedProduct P, typename C>
constexpr auto *kKernel = hopperKernel<P, Store<C>>;

/// Describes a dense tensor [planes, lines, width], of which a copy moves 64 by `boxLines`.
Fault describePlanes(CUtensorMap &map, const void *data, int64_t planes, int64_t lines,
                     int64_t width, int64_t boxLines) {
  return describeTensor(map, DType::BF16, data, {width, lines, planes},
                        {width * 2, width * lines * 2}, {64, boxLines, 1});
}

/// Enqueues a kernel on as many blocks as the device has multiprocessors.
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
  cudaStream_t stream = contextOf(launch).stream;
  if (auto fault =
          faultOf(cudaMemsetAsync(args.taken, 0, sizeof *args.taken, stream), "cudaMemsetAsync"))
    return fault;
  Store<C> store{static_cast<C *>(result), args.columns};
  kKernel<P, C><<<static_cast<unsigned>(processors), kBlock,
                  static_cast<size_t>(sharedBytes(args.experts)), stream>>>(a, b, args, store);
  return launchFault("grouped GEMM of sm_90a");
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
  // Tiles are counted in 32 bits.
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
  args.taken = reinterpret_cast<int *>(launch.workspace.data());
  args.rows = static_cast<int>(rows);
  args.experts = static_cast<int>(launch.operands[2].dims[0]);
  args.height = byRows ? 0 : static_cast<int>(c.dims[1]);
  args.columns = static_cast<int>(c.dims[c.rank - 1]);
  args.depth = byRows ? static_cast<int>(a.dims[1]) : 0;
  CUtensorMap mapA, mapB;
  if (auto fault = describePlanes(mapA, a.data, 1, rows, a.dims[1], 64))
    return fault;
  auto fault = byRows ? describePlanes(mapB, b.data, b.dims[0], b.dims[1], across,
                                       product == GroupedProduct::Forward ? kTileN : 64)
                      : describePlanes(mapB, b.data, 1, rows, across, 64);
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
