// The arithmetic of ranks: coordinates, groups, and which elements of a state a rank holds.

#include "dialects/dist/Dist.h"

#include "mlir/IR/MLIRContext.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard::dist {
namespace {

using testing::ElementsAre;

class DistMesh : public testing::Test {
protected:
  DistMesh() { context_.loadDialect<DistDialect>(); }

  MeshAttr mesh(std::initializer_list<std::pair<Axis, int64_t>> entries) {
    llvm::SmallVector<Axis> axes;
    llvm::SmallVector<int64_t> sizes;
    for (auto [axis, size] : entries) {
      axes.push_back(axis);
      sizes.push_back(size);
    }
    return MeshAttr::get(&context_, axes, sizes);
  }
  AxesAttr axes(std::initializer_list<Axis> list) {
    return AxesAttr::get(&context_, llvm::ArrayRef<Axis>(list.begin(), list.size()));
  }
  mlir::RankedTensorType tensor(std::initializer_list<int64_t> shape) {
    return mlir::RankedTensorType::get(llvm::ArrayRef<int64_t>(shape.begin(), shape.size()),
                                       mlir::Float32Type::get(&context_));
  }
  std::vector<int64_t> group(MeshAttr mesh, int64_t rank, AxesAttr axes) {
    llvm::SmallVector<int64_t> ranks = mesh.groupOf(rank, axes);
    return {ranks.begin(), ranks.end()};
  }

  mlir::MLIRContext context_;
};

TEST_F(DistMesh, RankIsRowMajorInTheOrderOfAxes) {
  MeshAttr grid = mesh({{Axis::Dp, 2}, {Axis::Fsdp, 3}, {Axis::Ep, 4}});
  EXPECT_EQ(grid.numRanks(), 24);
  for (int64_t dp = 0; dp < 2; ++dp)
    for (int64_t fsdp = 0; fsdp < 3; ++fsdp)
      for (int64_t ep = 0; ep < 4; ++ep) {
        int64_t rank = (dp * 3 + fsdp) * 4 + ep;
        EXPECT_EQ(grid.coordinate(rank, Axis::Dp), dp) << rank;
        EXPECT_EQ(grid.coordinate(rank, Axis::Fsdp), fsdp) << rank;
        EXPECT_EQ(grid.coordinate(rank, Axis::Ep), ep) << rank;
      }
}

TEST_F(DistMesh, AxisThatIsNotListedHasNoGroups) {
  MeshAttr grid = mesh({{Axis::Dp, 2}, {Axis::Ep, 4}});
  EXPECT_EQ(grid.sizeOf(Axis::Fsdp), std::nullopt);
  EXPECT_EQ(grid.coordinate(7, Axis::Fsdp), 0);
  EXPECT_EQ(grid.groupSize(axes({Axis::Fsdp, Axis::Ep})), std::nullopt);
  EXPECT_EQ(grid.groupSize(axes({Axis::Dp, Axis::Ep})), 8);
  EXPECT_EQ(mesh({}).numRanks(), 1);
}

TEST_F(DistMesh, GroupsHoldTheRanksThatDifferAlongTheirAxes) {
  MeshAttr grid = mesh({{Axis::Dp, 2}, {Axis::Fsdp, 2}, {Axis::Ep, 2}});
  EXPECT_THAT(group(grid, 5, axes({Axis::Ep})), ElementsAre(4, 5));
  EXPECT_THAT(group(grid, 5, axes({Axis::Fsdp})), ElementsAre(5, 7));
  EXPECT_THAT(group(grid, 5, axes({Axis::Dp})), ElementsAre(1, 5));
  EXPECT_THAT(group(grid, 5, axes({Axis::Fsdp, Axis::Ep})), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(group(grid, 5, axes({Axis::Dp, Axis::Ep})), ElementsAre(0, 1, 4, 5));
  EXPECT_THAT(group(grid, 5, axes({Axis::Dp, Axis::Fsdp, Axis::Ep})),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST_F(DistMesh, EachRankStandsAtItsIndexInItsGroup) {
  MeshAttr grid = mesh({{Axis::Dp, 3}, {Axis::Fsdp, 2}, {Axis::Ep, 4}});
  for (AxesAttr over : {axes({Axis::Dp}), axes({Axis::Fsdp}), axes({Axis::Ep}),
                        axes({Axis::Dp, Axis::Fsdp}), axes({Axis::Dp, Axis::Ep}),
                        axes({Axis::Fsdp, Axis::Ep}), axes({Axis::Dp, Axis::Fsdp, Axis::Ep})})
    for (int64_t rank = 0; rank < grid.numRanks(); ++rank) {
      llvm::SmallVector<int64_t> ranks = grid.groupOf(rank, over);
      ASSERT_EQ(static_cast<int64_t>(ranks.size()), grid.groupSize(over));
      EXPECT_TRUE(llvm::is_sorted(ranks));
      EXPECT_EQ(ranks[grid.indexInGroup(rank, over)], rank);
    }
}

TEST_F(DistMesh, SubsetsOfAxes) {
  EXPECT_TRUE(axes({Axis::Ep}).isSubsetOf(axes({Axis::Dp, Axis::Ep})));
  EXPECT_TRUE(axes({Axis::Ep}).isSubsetOf(axes({Axis::Ep})));
  EXPECT_FALSE(axes({Axis::Dp, Axis::Ep}).isSubsetOf(axes({Axis::Ep})));
}

TEST_F(DistMesh, FlatShardsAreMultiplesOf128Elements) {
  EXPECT_EQ(flatShardElements(0, 4), 0);
  EXPECT_EQ(flatShardElements(1, 4), 128);
  EXPECT_EQ(flatShardElements(512, 4), 128);
  EXPECT_EQ(flatShardElements(513, 4), 256);
  EXPECT_EQ(flatShardElements(100, 1), 128);
  EXPECT_EQ(flatShardElements(moe::kMaxExtent, kMaxRanks), int64_t{1} << 24);
}

TEST_F(DistMesh, ElementCountsAreBounded) {
  EXPECT_EQ(elementCount(tensor({})), 1);
  EXPECT_EQ(elementCount(tensor({3, 0, 5})), 0);
  EXPECT_EQ(elementCount(tensor({int64_t{1} << 20, int64_t{1} << 20})), int64_t{1} << 40);
  EXPECT_EQ(elementCount(tensor({int64_t{1} << 20, int64_t{1} << 21})), std::nullopt);
  EXPECT_EQ(elementCount(tensor({int64_t{1} << 40, int64_t{1} << 40})), std::nullopt);
  EXPECT_EQ(elementCount(tensor({mlir::ShapedType::kDynamic, 2})), std::nullopt);
}

// Together, ranks hold each element of a state once for each replica.
TEST_F(DistMesh, RanksCoverAStateOncePerReplica) {
  MeshAttr grid = mesh({{Axis::Dp, 2}, {Axis::Fsdp, 3}, {Axis::Ep, 4}});
  AxesAttr fsdp = axes({Axis::Fsdp}), ep = axes({Axis::Ep});
  struct Case {
    ShardingAttr sharding;
    mlir::RankedTensorType state;
    int replicas;
  };
  for (const Case &c : {
           Case{ShardingAttr::get(&context_, {}, axes({Axis::Fsdp, Axis::Ep})), tensor({7, 333}),
                2},
           Case{ShardingAttr::get(&context_, {}, axes({Axis::Fsdp, Axis::Ep})), tensor({5}), 2},
           Case{ShardingAttr::get(&context_, ep, fsdp), tensor({8, 5, 40}), 2},
           Case{ShardingAttr::get(&context_, ep, {}), tensor({8, 5}), 6},
           Case{ShardingAttr::get(&context_, fsdp, ep), tensor({3, 1000}), 2},
           Case{ShardingAttr::get(&context_, {}, ep), tensor({0, 4}), 6},
       }) {
    std::vector<int> holders(*elementCount(c.state));
    for (int64_t rank = 0; rank < grid.numRanks(); ++rank) {
      ElementRange range = c.sharding.localRange(grid, c.state, rank);
      ASSERT_LE(range.begin, range.end);
      ASSERT_LE(range.end, static_cast<int64_t>(holders.size()));
      for (int64_t i = range.begin; i < range.end; ++i)
        ++holders[i];
    }
    EXPECT_THAT(holders, testing::Each(c.replicas));
  }
}

TEST_F(DistMesh, PartsOfARank) {
  MeshAttr grid = mesh({{Axis::Fsdp, 2}, {Axis::Ep, 4}});
  ShardingAttr experts = ShardingAttr::get(&context_, axes({Axis::Ep}), axes({Axis::Fsdp}));
  // Rank 6 is fsdp 1, ep 2: experts 4 and 5 of 100 elements, of these what follows the first 128.
  ElementRange range = experts.localRange(grid, tensor({8, 100}), 6);
  EXPECT_EQ(range.begin, 528);
  EXPECT_EQ(range.end, 600);
  // 60 elements are one rank's; the others hold padding.
  ShardingAttr flat = ShardingAttr::get(&context_, {}, axes({Axis::Fsdp, Axis::Ep}));
  EXPECT_EQ(flat.localRange(grid, tensor({60}), 0).end, 60);
  EXPECT_EQ(flat.localRange(grid, tensor({60}), 1).begin, 60);
  EXPECT_EQ(flat.localRange(grid, tensor({60}), 1).end, 60);
}

} // namespace
} // namespace switchyard::dist
