// Token exchange over the memory of other GPUs. An exchange is three kernels:
//
//   prepare   one block: from all counts, where this rank's rows go; then the ranks meet, as the
//             memory that rows go to, or come from, must be ready on all of them
//   move      a warp copies a row: to another rank's memory (sendRows), or from it (returnRows)
//   meet      one block: all rows have arrived, and nobody reads them any more
//
// In a meeting each rank writes its number of meetings to all others, and waits until theirs are as
// high: release and acquire at system scope, which order what was written to other GPUs before.
// Every rank moves exactly the rows that there are, and sums nothing but small integers in shared
// memory and, with `added`, one row to another: the bits are the same each time.
//
// Seen on two H200s (NVLink, bfloat16, 16,384 tokens of 4,096 a rank, top 2, in replays of a
// training step, medians): token_exchange's move 382 us, token_return's 403 us, for 134 MB that
// each rank sends to the other and as much that stays: 351 and 333 GB/s a direction. NCCL 2.28's
// all_to_all of the same bytes, whose counts the host must know, takes 469 us there.
#include "kernels/cuda/TokenExchange.h"

#include "kernels/cuda/Groups.cuh"

#include <algorithm>

namespace switchyard::kernels::cuda {
namespace {

constexpr unsigned kPrepareThreads = 1024;
constexpr unsigned kMoveThreads = 512;
constexpr int64_t kMoveBlocks = 264; // two for each multiprocessor of a Hopper GPU
/// Packs that a lane has on their way at once.
constexpr int kAtOnce = 8;

__device__ void storeRelease(uint32_t *to, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
__device__ uint32_t loadAcquire(const uint32_t *from) {
  uint32_t value = 0;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

/// Returns when all ranks have come. All threads of the only block call it.
__device__ void meet(const Peers &peers) {
  __shared__ uint32_t meeting;
  ExchangeBoard &board = *peers.boards[peers.rank];
  if (threadIdx.x == 0)
    meeting = ++board.meetings;
  __syncthreads();
  if (threadIdx.x < static_cast<unsigned>(peers.size)) {
    __threadfence_system();
    storeRelease(&peers.boards[threadIdx.x]->arrived[peers.rank], meeting);
    // The difference is right where the counts wrap around, too.
    while (static_cast<int32_t>(loadAcquire(&board.arrived[threadIdx.x]) - meeting) < 0)
      __nanosleep(64);
  }
  __syncthreads();
}

__global__ void meetKernel(Peers peers) {
  meet(peers);
}

/// sums[i] = the sum of values[0, i), for i up to count. One warp calls it.
__device__ void scanValues(const int32_t *values, int32_t count, int32_t *sums) {
  int64_t sum = 0;
  int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  for (int32_t at = 0; at < count; at += 32) {
    int64_t value = at + lane < count ? values[at + lane] : 0;
    int64_t last = sum + warpScan(value);
    if (at + lane < count)
      sums[at + lane] = static_cast<int32_t>(last - value);
    sum = __shfl_sync(kFullWarp, last, 31);
  }
  if (lane == 0)
    sums[count] = static_cast<int32_t>(sum);
}

/// Of [begin, begin + count), how many are in the round that starts at `first`.
__device__ int32_t countInRound(int64_t begin, int64_t count, int64_t first, int64_t buffer) {
  int64_t from = max(begin, first), to = min(begin + count, first + buffer);
  return static_cast<int32_t>(max(to - from, int64_t{0}));
}

/// Fills the board, and the group sizes where there are any, from all counts.
__device__ void fillBoard(const Peers &peers, const TokenExchange &exchange, int32_t *groupSizes,
                          int64_t *counter) {
  extern __shared__ int32_t shared[];
  const int32_t experts = exchange.experts, local = experts / peers.size;
  int32_t *totals = shared, *mine = totals + experts, *starts = mine + experts; // starts: [E + 1]
  __shared__ int32_t away;
  ExchangeBoard &board = *peers.boards[peers.rank];
  if (threadIdx.x == 0)
    away = 0;
  for (int32_t e = static_cast<int32_t>(threadIdx.x); e < experts; e += kPrepareThreads) {
    int32_t total = 0;
    for (int s = 0; s < peers.size; ++s) {
      if (s == peers.rank)
        board.place[e] = total;
      int32_t count = max(exchange.allCounts[int64_t{s} * experts + e], 0);
      if (s == peers.rank)
        mine[e] = count;
      total += count;
    }
    totals[e] = total;
  }
  __syncthreads();
  if (threadIdx.x < 32)
    scanValues(mine, experts, board.firstRow);
  else if (threadIdx.x < 64)
    scanValues(totals, experts, starts);
  __syncthreads();
  const int64_t first = exchange.round ? *exchange.round * exchange.buffer : 0;
  const int32_t own = peers.rank * local; // the first expert of this rank
  for (int32_t e = static_cast<int32_t>(threadIdx.x); e < experts; e += kPrepareThreads) {
    int32_t start = starts[e] - starts[e / local * local]; // among the rows for the expert's rank
    board.place[e] += start;
    int32_t sent = countInRound(board.place[e], mine[e], first, exchange.buffer);
    bool isOwn = e >= own && e < own + local;
    // What is sent comes back: a rank sends back what it gets from others.
    int32_t received = isOwn ? countInRound(start, totals[e], first, exchange.buffer) : 0;
    if (groupSizes && isOwn)
      groupSizes[e - own] = received;
    atomicAdd(&away, groupSizes ? (isOwn ? 0 : sent) : (isOwn ? received - sent : 0));
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    board.begin = static_cast<int32_t>(first);
    board.received = countInRound(0, starts[own + local] - starts[own], first, exchange.buffer);
    *counter += away * exchange.rowBytes;
  }
}

__global__ __launch_bounds__(kPrepareThreads) void prepareKernel(Peers peers,
                                                                 TokenExchange exchange,
                                                                 int32_t *groupSizes,
                                                                 int64_t *counter) {
  fillBoard(peers, exchange, groupSizes, counter);
  meet(peers);
}

/// Where a row of this rank is at the rank of its expert.
struct Place {
  int rank = 0;
  int64_t row = -1; // in the round, or -1: of another round
};

/// Finds the places of this rank's rows. The first rows of the experts lie in shared memory.
class Places {
public:
  /// All threads of the block call it.
  __device__ Places(const Peers &peers, const TokenExchange &exchange, int32_t *firstRow)
      : board_(*peers.boards[peers.rank]), experts_(exchange.experts),
        local_(exchange.experts / peers.size), buffer_(exchange.buffer), firstRow_(firstRow) {
    for (int32_t e = static_cast<int32_t>(threadIdx.x); e <= experts_; e += kMoveThreads)
      firstRow_[e] = board_.firstRow[e];
    __syncthreads();
  }

  __device__ int64_t rows() const { return firstRow_[experts_]; }

  /// `row` < rows().
  __device__ Place of(int64_t row) const {
    int32_t low = 0, high = experts_; // firstRow[low] <= row < firstRow[high]
    while (high - low > 1) {
      int32_t middle = (low + high) / 2;
      (firstRow_[middle] <= row ? low : high) = middle;
    }
    int64_t place = board_.place[low] + row - firstRow_[low] - board_.begin;
    return {low / local_, place >= 0 && place < buffer_ ? place : -1};
  }

private:
  const ExchangeBoard &board_;
  int32_t experts_;
  int32_t local_;
  int64_t buffer_;
  int32_t *firstRow_;
};

/// Row i of this rank's warps, so that at any time rows go to, or come from, all ranks: to begin
/// with, each rank another one.
__device__ int64_t spreadRow(const Peers &peers, int64_t i, int64_t perPeer) {
  return (i + peers.rank) % peers.size * perPeer + i / peers.size;
}

__device__ int64_t warpOfGrid() {
  return (static_cast<int64_t>(blockIdx.x) * kMoveThreads + threadIdx.x) / 32;
}
__device__ int64_t warpsOfGrid() {
  return static_cast<int64_t>(gridDim.x) * (kMoveThreads / 32);
}

/// Calls body(i) for the packs of a row, a lane's share: kAtOnce loads, then as many stores.
template <typename V>
__device__ void copyRow(V *to, const V *from, int64_t packs) {
  for (int64_t first = threadIdx.x % 32; first < packs; first += 32 * kAtOnce) {
    V held[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (first + k * 32 < packs)
        held[k] = from[first + k * 32];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (first + k * 32 < packs)
        to[first + k * 32] = held[k];
  }
}

template <typename V>
__device__ void zeroRow(V *to, int64_t packs) {
  for (int64_t i = threadIdx.x % 32; i < packs; i += 32)
    to[i] = V{};
}

/// `packs` packs of type V are a row; `offset` is that of `received` in the ranks' memory.
template <typename V>
__global__ __launch_bounds__(kMoveThreads) void sendKernel(Peers peers, TokenExchange exchange,
                                                           const V *from, int64_t offset,
                                                           int64_t packs) {
  extern __shared__ int32_t shared[];
  const Places places(peers, exchange, shared);
  auto rowsOf = [&](int rank) { return reinterpret_cast<V *>(peers.memory[rank] + offset); };
  const int64_t rows = min(places.rows(), exchange.rows), perPeer = ceilDivide(rows, peers.size);
  for (int64_t i = warpOfGrid(); i < perPeer * peers.size; i += warpsOfGrid()) {
    int64_t row = spreadRow(peers, i, perPeer);
    if (row >= rows)
      continue;
    if (Place place = places.of(row); place.row >= 0)
      copyRow(rowsOf(place.rank) + place.row * packs, from + row * packs, packs);
  }
  // What is behind the rows received nobody writes.
  for (int64_t row = peers.boards[peers.rank]->received + warpOfGrid(); row < exchange.buffer;
       row += warpsOfGrid())
    zeroRow(rowsOf(peers.rank) + row * packs, packs);
}

/// What becomes of a row that comes back.
template <typename V>
struct Replace {
  using Element = V;
  static constexpr bool kAdds = false;
  static __device__ void row(V *to, const V *from, int64_t packs) { copyRow(to, from, packs); }
};

template <typename T, int N>
struct AddTo {
  using Element = Pack<T, N>;
  static constexpr bool kAdds = true;
  static __device__ void row(Element *to, const Element *from, int64_t packs) {
    for (int64_t i = threadIdx.x % 32; i < packs; i += 32) {
      Element held = to[i], more = from[i];
      float sums[N];
#pragma unroll
      for (int j = 0; j < N; ++j)
        sums[j] = held.value(j) + more.value(j);
      storePack(reinterpret_cast<T *>(to + i), sums);
    }
  }
};

template <typename Use, typename V = typename Use::Element>
__global__ __launch_bounds__(kMoveThreads) void returnKernel(Peers peers, TokenExchange exchange,
                                                             int64_t offset, V *returned,
                                                             int64_t packs) {
  extern __shared__ int32_t shared[];
  const Places places(peers, exchange, shared);
  const int64_t rows = min(places.rows(), exchange.rows), perPeer = ceilDivide(rows, peers.size);
  for (int64_t i = warpOfGrid(); i < perPeer * peers.size; i += warpsOfGrid()) {
    int64_t row = spreadRow(peers, i, perPeer);
    if (row >= rows)
      continue;
    Place place = places.of(row);
    auto *from = reinterpret_cast<const V *>(peers.memory[place.rank] + offset);
    if (place.row >= 0)
      Use::row(returned + row * packs, from + place.row * packs, packs);
    else if (!Use::kAdds)
      zeroRow(returned + row * packs, packs);
  }
  if (!Use::kAdds)
    for (int64_t row = rows + warpOfGrid(); row < exchange.rows; row += warpsOfGrid())
      zeroRow(returned + row * packs, packs);
}

__global__ __launch_bounds__(kPrepareThreads) void countRoundsKernel(Peers peers,
                                                                     TokenExchange exchange) {
  __shared__ int32_t totals[kMaxPeers];
  if (threadIdx.x < kMaxPeers)
    totals[threadIdx.x] = 0;
  __syncthreads();
  const int32_t experts = exchange.experts, local = experts / peers.size;
  for (int32_t e = static_cast<int32_t>(threadIdx.x); e < experts; e += kPrepareThreads)
    for (int s = 0; s < peers.size; ++s)
      atomicAdd(&totals[e / local], max(exchange.allCounts[int64_t{s} * experts + e], 0));
  __syncthreads();
  if (threadIdx.x > 0)
    return;
  int64_t most = 0;
  for (int r = 0; r < peers.size; ++r)
    most = max(most, int64_t{totals[r]});
  ExchangeBoard &board = *peers.boards[peers.rank];
  board.rounds =
      exchange.buffer == 0 || most == 0 ? 0 : static_cast<int32_t>((most - 1) / exchange.buffer);
  board.counters.rounds += board.rounds;
}

size_t boardBytes(int32_t experts) {
  return (3 * static_cast<size_t>(experts) + 1) * sizeof(int32_t);
}
size_t placesBytes(int32_t experts) {
  return (static_cast<size_t>(experts) + 1) * sizeof(int32_t);
}

Fault prepareMove(const Peers &peers, const TokenExchange &exchange, int32_t *groupSizes,
                  int64_t *counter, cudaStream_t stream) {
  prepareKernel<<<1, kPrepareThreads, boardBytes(exchange.experts), stream>>>(peers, exchange,
                                                                              groupSizes, counter);
  return launchFault("token_exchange, prepare");
}

unsigned moveBlocks(const TokenExchange &exchange) {
  int64_t blocks = ceilDivide(std::max(exchange.rows, exchange.buffer), kMoveThreads / 32);
  return static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, kMoveBlocks));
}

int64_t offsetOf(const Peers &peers, const void *pointer) {
  return static_cast<const std::byte *>(pointer) - peers.memory[peers.rank];
}

/// Calls body(V{}) with the widest type that `rowBytes` is a multiple of.
template <typename Body>
void withWord(int64_t rowBytes, const Body &body) {
  if (rowBytes % 16 == 0)
    return body(uint4{});
  if (rowBytes % 4 == 0)
    return body(uint32_t{});
  return body(uint16_t{});
}

template <typename Use>
void launchReturn(const Peers &peers, const TokenExchange &exchange, const void *from,
                  void *returned, cudaStream_t stream) {
  using V = typename Use::Element;
  returnKernel<Use><<<moveBlocks(exchange), kMoveThreads, placesBytes(exchange.experts), stream>>>(
      peers, exchange, offsetOf(peers, from), static_cast<V *>(returned),
      exchange.rowBytes / static_cast<int64_t>(sizeof(V)));
}

Fault endMove(const Peers &peers, const char *kernel, cudaStream_t stream) {
  if (Fault fault = launchFault(kernel))
    return fault;
  meetKernel<<<1, 32, 0, stream>>>(peers);
  return launchFault("token_exchange, meet");
}

template <typename Kernel>
Fault loadKernel(Kernel kernel) {
  cudaFuncAttributes attributes{};
  return faultOf(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
}

} // namespace

Fault sendRows(const Peers &peers, const TokenExchange &exchange, const void *from, void *received,
               int32_t *groupSizes, cudaStream_t stream) {
  if (Fault fault = prepareMove(peers, exchange, groupSizes,
                                &peers.boards[peers.rank]->counters.bytesSent, stream))
    return fault;
  withWord(exchange.rowBytes, [&]<typename V>(V) {
    sendKernel<V><<<moveBlocks(exchange), kMoveThreads, placesBytes(exchange.experts), stream>>>(
        peers, exchange, static_cast<const V *>(from), offsetOf(peers, received),
        exchange.rowBytes / static_cast<int64_t>(sizeof(V)));
  });
  return endMove(peers, "token_exchange", stream);
}

Fault returnRows(const Peers &peers, const TokenExchange &exchange, const void *from,
                 void *returned, std::optional<DType> added, cudaStream_t stream) {
  if (Fault fault = prepareMove(peers, exchange, nullptr,
                                &peers.boards[peers.rank]->counters.bytesReturned, stream))
    return fault;
  if (!added)
    withWord(exchange.rowBytes, [&]<typename V>(V) {
      launchReturn<Replace<V>>(peers, exchange, from, returned, stream);
    });
  else
    withFloatType(*added, [&]<typename T>(T) {
      withPack<kPack<T>>(exchange.rowBytes % 16 == 0, [&](auto pack) {
        launchReturn<AddTo<T, decltype(pack)::value>>(peers, exchange, from, returned, stream);
      });
    });
  return endMove(peers, "token_return", stream);
}

Fault countRounds(const Peers &peers, const TokenExchange &exchange, cudaStream_t stream) {
  countRoundsKernel<<<1, kPrepareThreads, 0, stream>>>(peers, exchange);
  return launchFault("overflow rounds");
}

Fault loadTokenExchange() {
  for (const Fault &fault :
       {loadKernel(prepareKernel), loadKernel(meetKernel), loadKernel(countRoundsKernel),
        loadKernel(sendKernel<uint4>), loadKernel(sendKernel<uint32_t>),
        loadKernel(sendKernel<uint16_t>), loadKernel(returnKernel<Replace<uint4>>),
        loadKernel(returnKernel<Replace<uint32_t>>), loadKernel(returnKernel<Replace<uint16_t>>),
        loadKernel(returnKernel<AddTo<float, 4>>), loadKernel(returnKernel<AddTo<float, 1>>),
        loadKernel(returnKernel<AddTo<BFloat16, 8>>), loadKernel(returnKernel<AddTo<BFloat16, 1>>)})
    if (fault)
      return fault;
  return std::nullopt;
}

} // namespace switchyard::kernels::cuda
