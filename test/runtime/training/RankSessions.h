// Sessions of the ranks of a plan, as threads.
#pragma once

#include "runtime/training/Session.h"
#include "test/runtime/comm/RankThreads.h"

#include <functional>
#include <string>

namespace switchyard::test {

inline std::string folderOf(const std::string &model) {
  return SWITCHYARD_SOURCE_DIR "/" + model;
}

/// Runs `body` on each rank of the plan, with the weights of the repository's `model` loaded.
inline void onRanks(const Plan &plan, const std::string &model,
                    const std::function<void(Session &session)> &body) {
  Result<Checkpoint> checkpoint = Checkpoint::open(folderOf(model));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  runRankThreads(static_cast<int>(plan.mesh.numRanks()), {}, [&](Communicator &communicator) {
    Agreement agreement(&communicator);
    auto session = Session::create(plan, {.threads = 1}, &agreement);
    ASSERT_TRUE(session.ok()) << session.status().message();
    Status status = (*session)->loadParameters(*checkpoint);
    ASSERT_TRUE(status.ok()) << status.message();
    body(**session);
  });
}

} // namespace switchyard::test
