// What communicators of processes share: the watch over ranks, and groups that send messages.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/process/MessageGroup.h"
#include "runtime/comm/process/RankWatch.h"

namespace switchyard::comm {

class ProcessCommunicator : public Communicator {
public:
  uint64_t memoryBytes() const override {
    uint64_t bytes = 0;
    for (const MessageGroup *group : groups_)
      bytes += group->memoryBytes();
    return bytes;
  }

  Status finish() override {
    SY_RETURN_IF_ERROR(finishDevices());
    SY_RETURN_IF_ERROR(world().barrier({"finish"}));
    watch_->finish();
    for (MessageGroup *group : groups_)
      group->close();
    return {};
  }

  void fail(const Status &why) override { watch_->fail(why.message()); }

protected:
  using Communicator::Communicator;

  /// The group of `members`, which talk by `messages` and take up to `scratchBytes` for sums.
  std::unique_ptr<Group> groupOf(std::shared_ptr<const GroupMembers> members,
                                 std::unique_ptr<Messages> messages, int64_t scratchBytes) {
    auto group = std::make_unique<MessageGroup>(sharedTable(), std::move(members), rank(),
                                                std::move(messages), scratchBytes);
    groups_.push_back(group.get());
    return group;
  }

  std::unique_ptr<RankWatch> watch_; // set by the backend before it makes groups

private:
  std::vector<MessageGroup *> groups_; // those of Communicator
};

} // namespace switchyard::comm
