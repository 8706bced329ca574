// The dist dialect: the mesh of ranks, which part of a state each of them holds, and the
// collectives between them. Ops, their formulas and their constraints are described in the .td
// files beside this one, their rationale in README.md.
#pragma once

#include "dialects/interfaces/ShardingAttrInterface.h"
#include "dialects/moe/MoE.h"

#include "mlir/IR/BuiltinOps.h"

#include <optional>

namespace switchyard::dist {

/// The name of the module's mesh.
inline constexpr llvm::StringLiteral kMeshName = "mesh";
/// The attribute of an argument that the host gives ranks alike: the axes along which it does.
inline constexpr llvm::StringLiteral kReplicatedAttr = "dist.replicated";
/// The symbol of the rows that a token exchange receives.
inline constexpr llvm::StringLiteral kReceivedSymbol = "R";
/// A mesh has at most this many ranks.
inline constexpr int64_t kMaxRanks = 65536;
/// A flat shard is a multiple of this many elements: 256 bytes of bf16, 512 of f32.
inline constexpr int64_t kFlatAlignment = 128;

/// Elements [begin, end) of a row-major tensor.
struct ElementRange {
  int64_t begin = 0, end = 0;
};

/// How many elements each of `ranks` flat shards of `elements` elements has: their share, rounded
/// up to a multiple of kFlatAlignment. `elements` is at most moe::kMaxExtent, `ranks` at most
/// kMaxRanks.
int64_t flatShardElements(int64_t elements, int64_t ranks);

/// How many elements a tensor of static extents has; nothing if more than moe::kMaxExtent.
std::optional<int64_t> elementCount(mlir::RankedTensorType type);

class MeshOp;

/// The mesh of the module around `from`; null if it has none. `symbols`, if given, caches look-ups.
MeshOp lookupMesh(mlir::Operation *from, mlir::SymbolTableCollection *symbols = nullptr);

} // namespace switchyard::dist

#include "dialects/dist/Dialect.h.inc"
#include "dialects/dist/Enums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/dist/Attrs.h.inc"
#include "dialects/dist/Interfaces.h.inc"
#define GET_OP_CLASSES
#include "dialects/dist/Ops.h.inc"

namespace switchyard::dist {

/// `over` ["ep"] in an op's assembly: the list of an AxesAttr.
mlir::ParseResult parseAxes(mlir::AsmParser &parser, AxesAttr &axes);
void printAxes(mlir::AsmPrinter &printer, mlir::Operation *op, AxesAttr axes);

/// How many ranks a group over `axes` has. Fails, with a diagnostic at `op`, if there is no mesh or
/// one of the axes is not in it.
mlir::FailureOr<int64_t> lookupGroupSize(mlir::Operation *op, AxesAttr axes,
                                         mlir::SymbolTableCollection *symbols = nullptr);

/// Whether the rows of a tensor are over R, the rows that an exchange receives.
bool isOverReceivedRows(mlir::Type type);

} // namespace switchyard::dist
