// The exchange of rows between ranks whose GPUs reach each other's memory (GPUs of one host), with
// counts that stay on the device: dialects/dist/ExchangeOps.td says which rows go where.
//
// The ranks of a group call the same functions in the same order, each on one stream of its own. A
// call only enqueues kernels, so a CUDA graph can record it. Rows go at the offset from
// Peers::memory that the pointer has on this rank: on all ranks the same.
#pragma once

#include "kernels/cuda/Kernels.h"

#include <optional>

namespace switchyard::kernels::cuda {

inline constexpr int kMaxPeers = 16; // GPUs of one host
inline constexpr int32_t kMaxExchangedExperts = 2048;

/// What has been counted since it was zeroed.
struct ExchangeCounters {
  int64_t bytesSent = 0;     // to other ranks, by sendRows
  int64_t bytesReturned = 0; // to other ranks, by returnRows
  int64_t rounds = 0;        // of countRounds
};

/// What a rank keeps for its exchanges, zeroed at first, in memory that the others reach.
struct ExchangeBoard {
  // How often each rank has come to a meeting; the others write here.
  uint32_t arrived[kMaxPeers];
  uint32_t meetings; // of this rank
  int32_t rounds;    // what countRounds found last
  ExchangeCounters counters;
  // Of the exchange under way.
  int32_t begin;    // the first place of its round
  int32_t received; // rows of its round that this rank gets
  int32_t
      firstRow[kMaxExchangedExperts + 1]; // where this rank's rows for an expert start; their end
  int32_t place[kMaxExchangedExperts]; // of the first of them, among the rows for the expert's rank
};

/// The ranks of a group, as this one reaches them.
struct Peers {
  int size = 1;
  int rank = 0;
  ExchangeBoard *boards[kMaxPeers] = {};
  std::byte *memory[kMaxPeers] = {}; // the same arena on each
};

/// The numbers of one exchange over `Peers::size` = n ranks.
struct TokenExchange {
  const int32_t *allCounts = nullptr; // [n, E]
  const int32_t *round = nullptr;     // a scalar; null: round 0
  int32_t experts = 0;                // E, a multiple of n
  int64_t rows = 0;                   // that a rank has at most, to send
  int64_t buffer = 0;                 // B: that it receives at once
  int64_t rowBytes = 0;
};

/// The rows of the round from every rank's `from` [rows] to the `received` [B] of their experts'
/// ranks, which lies in Peers::memory, zeros behind them; `groupSizes` [E / n].
Fault sendRows(const Peers &peers, const TokenExchange &exchange, const void *from, void *received,
               int32_t *groupSizes, cudaStream_t stream);

/// The reverse: rows of every rank's `from` [B], which lies in Peers::memory, to where they came
/// from in `returned` [rows]. Others than the round's become zero; or, with `added`, rows are
/// elements of that dtype, F32 or BF16, and added to what is there, rounded once.
Fault returnRows(const Peers &peers, const TokenExchange &exchange, const void *from,
                 void *returned, std::optional<DType> added, cudaStream_t stream);

/// ExchangeBoard::rounds = how many rounds there are after round 0; ExchangeCounters::rounds grows
/// by it.
Fault countRounds(const Peers &peers, const TokenExchange &exchange, cudaStream_t stream);

/// Loads the kernels' code, which must not happen while a graph is recorded.
Fault loadTokenExchange();

} // namespace switchyard::kernels::cuda
