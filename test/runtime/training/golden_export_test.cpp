// What is exported after a golden's steps is what transformers saved, whatever mesh trained it.
#include "runtime/checkpoint/CheckpointSaver.h"
#include "runtime/checkpoint/TrainingCheckpoint.h"
#include "runtime/core/Floats.h"
#include "runtime/training/Golden.h"
#include "test/runtime/comm/RankThreads.h"
#include "test/runtime/training/CompiledPlan.h"

#include <cmath>
#include <cstring>
#include <fmt/ranges.h>

namespace switchyard {
namespace {

/// The golden's steps, a checkpoint half way, from which a new session goes on, and one at the end.
void trainGolden(const std::string &folder, const Plan &plan, const std::string &out) {
  Result<Golden> golden = loadGolden(folder, plan.training.vocabSize);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  Result<Checkpoint> initial = Checkpoint::open(folder);
  ASSERT_TRUE(initial.ok()) << initial.status().message();
  const auto steps = static_cast<int64_t>(golden->steps.size());
  test::runRankThreads(static_cast<int>(plan.mesh.numRanks()), {}, [&](Communicator &communicator) {
    Agreement agreement(&communicator);
    std::unique_ptr<Session> session;
    auto run = [&](int64_t begin, int64_t end) -> Status {
      SY_ASSIGN_OR_RETURN(session, Session::create(plan, {.threads = 1}, &agreement));
      if (begin == 0) {
        SY_RETURN_IF_ERROR(session->loadParameters(*initial));
      } else {
        SY_ASSIGN_OR_RETURN(TrainingCheckpoint checkpoint,
                            TrainingCheckpoint::open(checkpointFolder(out, begin)));
        SY_RETURN_IF_ERROR(session->loadStates(checkpoint));
      }
      SY_ASSIGN_OR_RETURN(PassFiller filler, session->createFiller(session->lossNormalization()));
      for (int64_t step = begin; step < end; ++step) {
        StepBatches batches;
        golden->batches.get(step, batches);
        SY_RETURN_IF_ERROR(filler.setStep(batches));
        UpdateScalars scalars = golden->scalars;
        scalars.step = step + 1;
        SY_RETURN_IF_ERROR(session->step(filler, scalars).status());
      }
      CheckpointInfo info;
      info.step = end;
      info.globalBatch = golden->microBatches;
      SY_ASSIGN_OR_RETURN(
          std::unique_ptr<CheckpointSaver> saver,
          CheckpointSaver::create(session->executor(), agreement, {out, folder, ""}));
      SY_RETURN_IF_ERROR(saver->start(info));
      return saver->finish();
    };
    for (auto [begin, end] : {std::pair{int64_t{0}, steps / 2}, std::pair{steps / 2, steps}}) {
      Status status = run(begin, end);
      ASSERT_TRUE(status.ok()) << status.message();
    }
  });
}

/// norm(ours - theirs) / norm(theirs) of the tensor where it is largest.
double largestDifference(const std::string &ours, const std::string &theirs) {
  Result<Checkpoint> a = Checkpoint::open(ours), b = Checkpoint::open(theirs);
  EXPECT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->names(), b->names());
  double largest = 0;
  for (const TensorEntry &entry : a->tensors()) {
    const TensorEntry *other = b->find(entry.name);
    EXPECT_EQ(entry.dtype, other->dtype) << entry.name;
    EXPECT_EQ(entry.shape, other->shape) << entry.name;
    std::vector<float> x(entry.count()), y(entry.count());
    std::memcpy(x.data(), a->bytes(entry)->data(), entry.byteCount());
    std::memcpy(y.data(), b->bytes(*other)->data(), entry.byteCount());
    double difference = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      difference += (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
      norm += double(y[i]) * y[i];
    }
    largest = std::max(largest, std::sqrt(difference / norm));
  }
  return largest;
}

class GoldenExportTest : public ::testing::TestWithParam<std::tuple<const char *, const char *>> {};

TEST_P(GoldenExportTest, EqualsWhatTransformersSaved) {
  const auto [name, mesh] = GetParam();
  const std::string folder = name[0] == '/' ? name : SWITCHYARD_SOURCE_DIR "/" + std::string(name);
  if (!fileExists(folder + "/expected.json"))
    GTEST_SKIP() << folder << " is not there";
  Result<std::vector<std::string>> flags = goldenCompileArguments(folder);
  ASSERT_TRUE(flags.ok()) << flags.status().message();
  Plan plan = compiled(folder, fmt::format("{} --mesh {}", fmt::join(*flags, " "), mesh));
  TestFolder out;
  trainGolden(folder, plan, out.path());
  Status status = exportTrainingCheckpoint(out.file("latest"), out.file("hf"));
  ASSERT_TRUE(status.ok()) << status.message();
  const double difference = largestDifference(out.file("hf"), folder + "/final");
  std::cout << folder << ", " << mesh << ": " << difference << "\n";
  EXPECT_LT(difference, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Meshes, GoldenExportTest,
                         ::testing::Combine(::testing::Values("test/golden/mixtral-tiny",
                                                              SWITCHYARD_SOURCE_DIR
                                                              "/../shared/golden/mixtral"),
                                            ::testing::Values("fsdp=1", "ep=2", "fsdp=2,ep=2")));

} // namespace
} // namespace switchyard
