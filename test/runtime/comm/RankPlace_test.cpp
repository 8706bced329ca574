// What launchers say of a process's place in its job.
#include "runtime/comm/process/RankPlace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

Result<std::optional<RankPlace>> placeIn(const Variables &variables) {
  return rankPlace([&](const char *name) {
    auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

RankPlace placeOf(const Variables &variables) {
  auto place = placeIn(variables);
  EXPECT_TRUE(place.ok()) << place.status().message();
  EXPECT_TRUE(place.ok() && *place);
  return place.ok() && *place ? **place : RankPlace();
}

std::string errorOf(const Variables &variables) {
  auto place = placeIn(variables);
  EXPECT_FALSE(place.ok());
  EXPECT_EQ(place.status().code(), StatusCode::Usage);
  return place.status().message();
}

const Variables kTorchrun{{"RANK", "5"},           {"WORLD_SIZE", "8"},
                          {"LOCAL_RANK", "1"},     {"LOCAL_WORLD_SIZE", "4"},
                          {"MASTER_ADDR", "gpu1"}, {"MASTER_PORT", "29500"}};

Variables with(Variables variables, const Variables &more) {
  for (const auto &[name, value] : more)
    variables[name] = value;
  return variables;
}

TEST(RankPlace, NothingWithoutALauncher) {
  for (const Variables &variables :
       {Variables{}, Variables{{"RANK", "0"}}, Variables{{"WORLD_SIZE", "2"}},
        // what a batch script sees, which is no task of a step
        Variables{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_NODELIST", "a[1-4]"}}}) {
    auto place = placeIn(variables);
    ASSERT_TRUE(place.ok()) << place.status().message();
    EXPECT_FALSE(*place);
  }
}

TEST(RankPlace, Torchrun) {
  RankPlace place = placeOf(kTorchrun);
  EXPECT_EQ(place.launcher, "torchrun");
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 8);
  EXPECT_EQ(place.rankOnHost, 1);
  EXPECT_EQ(place.sizeOfHost, 4);
  ASSERT_TRUE(place.meeting);
  EXPECT_EQ(place.meeting->host, "gpu1");
  EXPECT_THAT(place.meeting->ports, ElementsAre(29500));
  EXPECT_EQ(place.meeting->listener, -1);
}

// Its store has the port itself.
TEST(RankPlace, TorchrunWithItsStore) {
  RankPlace place = placeOf(
      with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"TORCHELASTIC_RUN_ID", "abc"}}));
  ASSERT_TRUE(place.meeting);
  EXPECT_THAT(place.meeting->ports,
              ElementsAre(29501, 29502, 29503, 29504, 29505, 29506, 29507, 29508));
  EXPECT_NE(place.meeting->job, placeOf(kTorchrun).meeting->job);
}

TEST(RankPlace, OurOwn) {
  Variables variables = with(kTorchrun, {{"MOE_JOB", "12"}, {"MOE_RENDEZVOUS_SOCKET", "7"}});
  EXPECT_EQ(placeOf(variables).launcher, "moe-run");
  EXPECT_EQ(placeOf(variables).meeting->listener, -1); // it is rank 0's
  variables["RANK"] = "0";
  EXPECT_EQ(placeOf(variables).meeting->listener, 7);
}

TEST(RankPlace, Mpirun) {
  Variables variables{{"OMPI_COMM_WORLD_RANK", "3"},
                      {"OMPI_COMM_WORLD_SIZE", "4"},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                      {"PMIX_NAMESPACE", "1234"}};
  RankPlace place = placeOf(variables);
  EXPECT_EQ(place.launcher, "mpirun");
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.rankOnHost, 3);
  ASSERT_TRUE(place.meeting); // one host
  EXPECT_EQ(place.meeting->host, "127.0.0.1");
  EXPECT_EQ(place.meeting->ports.size(), 8U);
  // Several hosts: only MPI knows where rank 0 is, or whoever sets this.
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "2";
  variables["OMPI_COMM_WORLD_LOCAL_RANK"] = "1";
  EXPECT_FALSE(placeOf(variables).meeting);
  variables = with(variables, {{"MASTER_ADDR", "n1"}, {"MASTER_PORT", "4000"}});
  EXPECT_EQ(placeOf(variables).meeting->host, "n1");
  EXPECT_THAT(placeOf(variables).meeting->ports, ElementsAre(4000));
}

TEST(RankPlace, Srun) {
  Variables variables{{"SLURM_PROCID", "5"},
                      {"SLURM_STEP_NUM_TASKS", "6"},
                      {"SLURM_STEP_NUM_NODES", "2"},
                      {"SLURM_LOCALID", "2"},
                      {"SLURM_STEP_NODELIST", "node[03-05,9],gpu1"},
                      {"SLURM_JOB_ID", "77"},
                      {"SLURM_STEP_ID", "0"},
                      {"PMI_RANK", "5"},
                      {"PMI_SIZE", "6"}};
  RankPlace place = placeOf(variables);
  EXPECT_EQ(place.launcher, "srun");
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 6);
  EXPECT_EQ(place.rankOnHost, 2);
  EXPECT_EQ(place.sizeOfHost, 3);
  ASSERT_TRUE(place.meeting);
  EXPECT_EQ(place.meeting->host, "node03");
  // Two steps at once on one host look for each other at different ports.
  uint16_t port = place.meeting->ports.front();
  variables["SLURM_STEP_ID"] = "1";
  EXPECT_NE(placeOf(variables).meeting->ports.front(), port);
}

TEST(RankPlace, ContradictionsAreRefusedByName) {
  EXPECT_THAT(errorOf(with(kTorchrun, {{"RANK", "8"}})),
              HasSubstr("RANK is \"8\" and WORLD_SIZE is \"8\" in the environment"));
  EXPECT_THAT(errorOf(with(kTorchrun, {{"RANK", "x"}})), HasSubstr("RANK is \"x\""));
  EXPECT_THAT(errorOf(with(kTorchrun, {{"MASTER_PORT", "0"}})),
              HasSubstr("MASTER_PORT is \"0\"; expected a TCP port, 1 to 65535"));
  EXPECT_THAT(errorOf({{"RANK", "0"}, {"WORLD_SIZE", "2"}}),
              HasSubstr("not MASTER_ADDR and MASTER_PORT: where the ranks meet"));
  EXPECT_THAT(errorOf({{"SLURM_STEP_NODELIST", "a"}, {"SLURM_STEP_NUM_TASKS", "2"}}),
              HasSubstr("SLURM_PROCID is \"\" and SLURM_STEP_NUM_TASKS is \"2\""));
}

TEST(RankPlace, FirstHost) {
  EXPECT_EQ(firstHost("node1"), "node1");
  EXPECT_EQ(firstHost("node1,node2"), "node1");
  EXPECT_EQ(firstHost("node[3-5]"), "node3");
  EXPECT_EQ(firstHost("node[007,9-12],x[1-2]"), "node007");
  EXPECT_EQ(firstHost("rack[1-2]-gpu,other"), "rack1-gpu");
  EXPECT_EQ(firstHost("node[3"), "");
  EXPECT_EQ(firstHost(""), "");
}

} // namespace
} // namespace switchyard
