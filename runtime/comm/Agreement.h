// How the ranks of a job decide together between programs: whether all of them are well, whether to
// stop, what the others have.
//
// A failure that only one rank sees (its disk is full) becomes everyone's failure here, in good
// order. One that keeps a rank from coming here is for Communicator::fail().
#pragma once

#include "runtime/comm/Communicator.h"

namespace switchyard {

/// "" of the only rank there is or of none, " on rank 2", " on ranks 0, 2", " on all 4 ranks".
std::string ranksText(std::span<const int> ranks, int numRanks);

class Agreement {
public:
  /// `communicator` may be null: one rank, which agrees with itself. It must outlive this.
  explicit Agreement(Communicator *communicator = nullptr);

  Communicator *communicator() const { return communicator_; }
  int rank() const { return communicator_ ? communicator_->rank() : 0; }
  int size() const { return communicator_ ? communicator_->size() : 1; }
  bool isLeader() const { return rank() == 0; }

  /// What the ranks have, `mine.size()` values each, in rank order; valid until the next call.
  /// Collective. Fails only if the communicator does.
  Result<std::span<const int64_t>> gather(std::span<const int64_t> mine);

  /// The text that rank `from` gives, on all ranks. Collective. Fails only if the communicator
  /// does.
  Result<std::string> share(std::string text, int from = 0);

  /// Success if all ranks had it, else the failure of the lowest rank that has one, the same on all
  /// ranks; of another rank than 0 it begins with "rank 2: ". Collective.
  Status agree(const Status &mine);
  template <typename T>
  Result<T> agree(Result<T> mine) {
    SY_RETURN_IF_ERROR(agree(mine.status()));
    return mine;
  }

  /// Whether all ranks know of a failure: agree() gave it to them.
  bool hasFailed() const { return hasFailed_; }

private:
  Communicator *communicator_;
  std::vector<int64_t> all_;
  bool hasFailed_ = false;
};

} // namespace switchyard
