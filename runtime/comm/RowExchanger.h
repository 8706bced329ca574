// The exchange of tokens between GPUs by counts that stay on the device: no host waits for them,
// and a CUDA graph can record it. Made by DeviceGroup::shareMemory(); without one, the executor
// reads the counts and calls allToAllV.
#pragma once

#include "kernels/signatures/Signature.h"
#include "runtime/core/Status.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace switchyard {

/// One exchange, as dialects/dist/ExchangeOps.td describes it. Pointers are the device's.
struct RowExchange {
  const int32_t *allCounts = nullptr; // [n, E], the same on all ranks of the group
  const int32_t *round = nullptr;     // a scalar; null: round 0
  int64_t experts = 0;                // E
  int64_t rows = 0;                   // that a rank has at most, to send
  int64_t buffer = 0;                 // B: that it receives at once
  int64_t rowBytes = 0;
};

/// What was exchanged since the exchanger was made.
struct ExchangeTotals {
  int64_t bytesSent = 0;      // by exchange(), to other ranks
  int64_t bytesReturned = 0;  // by giveBack(), to other ranks
  int64_t overflowRounds = 0; // of countRounds()

  ExchangeTotals &operator+=(const ExchangeTotals &more) {
    bytesSent += more.bytesSent;
    bytesReturned += more.bytesReturned;
    overflowRounds += more.overflowRounds;
    return *this;
  }
  ExchangeTotals operator-(const ExchangeTotals &less) const {
    return {bytesSent - less.bytesSent, bytesReturned - less.bytesReturned,
            overflowRounds - less.overflowRounds};
  }
};

/// One rank's part. All ranks of the group call the same functions in the same order; a call only
/// puts work on `stream`, the native handle, and there are no two calls at once.
class RowExchanger {
public:
  virtual ~RowExchanger() = default;
  RowExchanger(const RowExchanger &) = delete;
  RowExchanger &operator=(const RowExchanger &) = delete;

  /// Whether exchanges of `experts` experts can have a buffer here: it lies in the shared memory.
  virtual bool takes(int64_t experts, std::span<const std::byte> buffer) const = 0;

  /// token_exchange: rows from every rank's `from` [rows] into `received` [B], which is taken,
  /// zeros behind them, and `groupSizes` [E / n].
  virtual Status exchange(const RowExchange &exchange, const void *from, void *received,
                          int32_t *groupSizes, void *stream) = 0;

  /// token_return: from every rank's `from` [B], which is taken, to `returned` [rows]. With
  /// `added`, rows are elements of that dtype and are added to what is there; else other rows
  /// become zero.
  virtual Status giveBack(const RowExchange &exchange, const void *from, void *returned,
                          std::optional<kernels::DType> added, void *stream) = 0;

  /// *rounds() = how many rounds there are after round 0, on the device.
  virtual Status countRounds(const RowExchange &exchange, void *stream) = 0;
  virtual const int32_t *rounds() const = 0;

  /// The totals, on the device: behind a call's work they have what it exchanged.
  virtual const ExchangeTotals *totals() const = 0;

protected:
  RowExchanger() = default;
};

} // namespace switchyard
