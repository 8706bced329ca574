#include "runtime/comm/peer/PeerExchanger.h"

#include "kernels/cuda/TokenExchange.h"
#include "runtime/comm/Agreement.h"
#include "runtime/core/Fingerprint.h"

#include <cstdlib>
#include <cuda_runtime_api.h>
#include <fstream>
#include <string>
#include <string_view>

namespace switchyard {
namespace {

namespace cuda = kernels::cuda;

static_assert(sizeof(ExchangeTotals) == sizeof(cuda::ExchangeCounters));

/// Of its own, so that no other allocation shares what the driver maps.
constexpr size_t kBoardBytes = size_t{2} << 20;
static_assert(sizeof(cuda::ExchangeBoard) <= kBoardBytes);

Status statusOf(cudaError_t error, const char *call) {
  if (auto fault = cuda::faultOf(error, call))
    return Status::failed(*fault);
  return {};
}
Status statusOf(const cuda::Fault &fault) {
  return fault ? Status::failed(*fault) : Status();
}

/// What a rank tells the others of its group.
struct Offer {
  int64_t host = 0; // the boot that this process runs in
  int64_t canShare = 0;
  int64_t mark = 0; // stands at the begin of its memory
  cudaIpcMemHandle_t board{}, memory{};
};
static_assert(sizeof(Offer) % sizeof(int32_t) == 0);

/// Whether `memory`, as this process maps it, begins with `mark`: it is what the other rank means.
bool beginsWith(const void *memory, int64_t mark) {
  int64_t found = 0;
  return cudaMemcpy(&found, memory, sizeof found, cudaMemcpyDeviceToHost) == cudaSuccess &&
         found == mark;
}

/// CUDA keeps an error of a call that is only a question.
bool isDone(cudaError_t error) {
  (void)cudaGetLastError();
  return error == cudaSuccess;
}

class PeerExchanger final : public RowExchanger {
public:
  PeerExchanger(Communicator &communicator, Group &group, std::span<std::byte> memory)
      : communicator_(communicator), group_(group), memory_(memory) {
    peers_.size = group.size();
    peers_.rank = group.rank();
  }
  ~PeerExchanger() override {
    for (void *mapped : mapped_)
      (void)cudaIpcCloseMemHandle(mapped);
    (void)cudaFree(board_);
  }

  /// Whether all ranks of the world reach those of their groups.
  Result<bool> create() {
    Agreement agreement(&communicator_);
    Offer offer;
    SY_RETURN_IF_ERROR(agreement.agree(makeOffer(offer)));
    SY_RETURN_IF_ERROR(gatherOffers(offer));
    bool isReached = true;
    for (const Offer &other : offers_)
      isReached = isReached && other.canShare != 0 && other.host == offer.host;
    for (int r = 0; r < group_.size() && isReached; ++r)
      isReached = map(r);
    SY_ASSIGN_OR_RETURN(isReached, isSoOnAll(agreement, isReached));
    // Nobody looks at the mark any more.
    SY_RETURN_IF_ERROR(agreement.agree(finishOffer(offer)));
    return isReached;
  }

  bool takes(int64_t experts, std::span<const std::byte> buffer) const override {
    return experts <= cuda::kMaxExchangedExperts && buffer.data() >= memory_.data() &&
           buffer.data() + buffer.size() <= memory_.data() + memory_.size();
  }

  Status exchange(const RowExchange &exchange, const void *from, void *received,
                  int32_t *groupSizes, void *stream) override {
    return statusOf(cuda::sendRows(peers_, numbersOf(exchange), from, received, groupSizes,
                                   static_cast<cudaStream_t>(stream)));
  }

  Status giveBack(const RowExchange &exchange, const void *from, void *returned,
                  std::optional<kernels::DType> added, void *stream) override {
    return statusOf(cuda::returnRows(peers_, numbersOf(exchange), from, returned, added,
                                     static_cast<cudaStream_t>(stream)));
  }

  Status countRounds(const RowExchange &exchange, void *stream) override {
    return statusOf(
        cuda::countRounds(peers_, numbersOf(exchange), static_cast<cudaStream_t>(stream)));
  }
  const int32_t *rounds() const override { return &board_->rounds; }
  const ExchangeTotals *totals() const override {
    return reinterpret_cast<const ExchangeTotals *>(&board_->counters);
  }

private:
  static cuda::TokenExchange numbersOf(const RowExchange &exchange) {
    return {exchange.allCounts, exchange.round,  static_cast<int32_t>(exchange.experts),
            exchange.rows,      exchange.buffer, exchange.rowBytes};
  }

  static Result<bool> isSoOnAll(Agreement &agreement, bool isSo) {
    const int64_t mine[] = {isSo};
    SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement.gather(mine));
    bool isSoEverywhere = true;
    for (int64_t one : all)
      isSoEverywhere = isSoEverywhere && one != 0;
    return isSoEverywhere;
  }

  Status makeOffer(Offer &offer) {
    void *board = nullptr;
    SY_RETURN_IF_ERROR(statusOf(cudaMalloc(&board, kBoardBytes), "cudaMalloc"));
    board_ = static_cast<cuda::ExchangeBoard *>(board);
    SY_RETURN_IF_ERROR(statusOf(cudaMemset(board, 0, kBoardBytes), "cudaMemset"));
    // One text for all processes of a boot of a machine, another for each machine.
    std::string boot;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
    const char *disabled = std::getenv("NCCL_P2P_DISABLE");
    offer.host = static_cast<int64_t>(fingerprint(boot));
    offer.mark = offer.host ^ (communicator_.rank() + 1);
    offer.canShare = !boot.empty() && !memory_.empty() && group_.size() <= cuda::kMaxPeers &&
                     !(disabled && std::string_view(disabled) == "1") &&
                     isDone(cudaIpcGetMemHandle(&offer.board, board)) &&
                     isDone(cudaIpcGetMemHandle(&offer.memory, memory_.data()));
    if (offer.canShare)
      SY_RETURN_IF_ERROR(statusOf(
          cudaMemcpy(memory_.data(), &offer.mark, sizeof offer.mark, cudaMemcpyHostToDevice),
          "cudaMemcpy"));
    return statusOf(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  Status finishOffer(const Offer &offer) {
    if (!offer.canShare)
      return {};
    SY_RETURN_IF_ERROR(statusOf(cudaMemset(memory_.data(), 0, sizeof offer.mark), "cudaMemset"));
    SY_RETURN_IF_ERROR(statusOf(cuda::loadTokenExchange()));
    return statusOf(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  Status gatherOffers(const Offer &offer) {
    offers_.resize(group_.size());
    return group_.allGather({"start"}, Transfer{kernels::DType::I32, &offer, offers_.data(),
                                                sizeof(Offer) / sizeof(int32_t)});
  }

  bool map(int r) {
    if (r == group_.rank()) {
      peers_.boards[r] = board_;
      peers_.memory[r] = memory_.data();
      return true;
    }
    void *board = nullptr, *memory = nullptr;
    if (!isDone(cudaIpcOpenMemHandle(&board, offers_[r].board, cudaIpcMemLazyEnablePeerAccess)))
      return false;
    mapped_.push_back(board);
    if (!isDone(cudaIpcOpenMemHandle(&memory, offers_[r].memory, cudaIpcMemLazyEnablePeerAccess)))
      return false;
    mapped_.push_back(memory);
    peers_.boards[r] = static_cast<cuda::ExchangeBoard *>(board);
    peers_.memory[r] = static_cast<std::byte *>(memory);
    return beginsWith(memory, offers_[r].mark);
  }

  Communicator &communicator_;
  Group &group_;
  std::span<std::byte> memory_;
  cuda::ExchangeBoard *board_ = nullptr;
  cuda::Peers peers_;
  std::vector<Offer> offers_;
  std::vector<void *> mapped_;
};

} // namespace

Result<std::unique_ptr<RowExchanger>> createPeerExchanger(Communicator &communicator, Group &group,
                                                          std::span<std::byte> memory) {
  auto exchanger = std::make_unique<PeerExchanger>(communicator, group, memory);
  SY_ASSIGN_OR_RETURN(bool isReached, exchanger->create());
  if (!isReached)
    return std::unique_ptr<RowExchanger>();
  return std::unique_ptr<RowExchanger>(std::move(exchanger));
}

} // namespace switchyard
