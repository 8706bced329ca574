// checkpoint.json: what a training checkpoint holds, where its elements are, and the checksums of
// everything. A checkpoint is read by it alone; nothing of it depends on the plan's file format.
//
// The text's second line is the checksum of what follows that line, so that damage is found here
// too.
#pragma once

#include "runtime/plan/Plan.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

inline constexpr char kManifestFile[] = "checkpoint.json";

/// Where the run stands, and what it must not change to go on with the same records.
struct CheckpointInfo {
  int64_t step = 0;     // updates done
  int64_t position = 0; // records taken since the first epoch's start
  int64_t epoch = 0;    // the one that the position is in
  int64_t seed = 0;
  std::string samplingStrategy;
  int64_t records = 0; // of the data
  int64_t tokens = 0;
  int64_t globalBatch = 0; // sequences of a step, over all ranks
  bool packing = false;
  int64_t maxSeqLength = 0;
};

/// A state as a whole, in elements of the unpadded logical tensor, row-major.
struct SavedState {
  std::string name;
  StateKind kind = StateKind::Parameter;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  std::vector<SourceSlice>
      tensors; // Parameter, Master: the HF tensors that it is made of, in order

  int64_t count() const;
};

/// Elements of a state in a file, and the checksum of each block of kChecksumBytes of them.
struct SavedPiece {
  size_t state = 0; // in Manifest::states
  ElementRange elements;
  std::vector<uint64_t> checksums;
};
inline constexpr int64_t kChecksumBytes = int64_t{1} << 20;

/// How many blocks `elements` elements of `dtype` have.
int64_t checksumBlocks(int64_t elements, DType dtype);

/// A rank's file. `headerChecksum` is of all bytes before the first tensor's.
struct SavedRankFile {
  uint64_t bytes = 0;
  uint64_t headerChecksum = 0;
  std::vector<SavedPiece> pieces; // in the file's order
};

/// A file beside those: "step.plan", "model/config.json".
struct SavedFile {
  std::string name;
  uint64_t bytes = 0;
  uint64_t checksum = 0;
};

struct Manifest {
  CheckpointInfo info;
  std::string compilerVersion;
  std::string modelFingerprint;
  std::string planFingerprint;
  std::string precision;
  Mesh mesh;
  std::vector<SavedState> states;
  std::vector<SavedRankFile> rankFiles; // by rank
  std::vector<SavedFile> files;
};

/// "states-00002-of-00004.safetensors".
std::string rankFileName(int64_t rank, int64_t ranks);

/// What a checkpoint of `plan` holds: all states but gradients, wider elements first; and on each
/// rank its part, which ranks that hold the same share. Sizes and checksums are left out.
/// InvalidInput: as resolve() (Source.h).
Result<Manifest> manifestOf(const Plan &plan);

std::string formatManifest(const Manifest &manifest);

/// The text is not trusted: pieces cover each state exactly, names stay in the folder. InvalidInput
/// without the file's name.
Result<Manifest> parseManifest(const std::string &text);

} // namespace switchyard
