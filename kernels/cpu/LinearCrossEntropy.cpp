// Cross entropy of logits that are never all held, and its gradients.
//
// Rows without a label or weight are left out: of an instruction data set that is the prompts, half
// of all rows. The others are gathered, cpuCrossEntropyRows at a time, and the vocabulary is cut
// into tiles (crossEntropyColumns). Per chunk:
//   1. each tile: logits = x w^T; per row the tile's maximum m, e = exp(logit - m) and its sum;
//   2. each row: logsumexp and loss from the tiles' maxima and sums, and each tile's factor
//      exp(m - logsumexp) * weight, which turns e into the gradient with no second exponential;
//   3. each tile: dlogits = e * factor (- weight at the label), dw += dlogits^T x, and the tile's
//      share dlogits w of dx, written over the tile's logits;
//   4. each row: dx = the sum of the shares, in order.
// Tiles and rows are tasks; the cut follows from the shapes and the labels alone.
#include "kernels/cpu/BFloat16.h"
#include "kernels/cpu/KernelList.h"
#include "kernels/cpu/Tiles.h"
#include "kernels/cpu/VectorMath.h"
#include "kernels/signatures/linear_cross_entropy.h"

#include <cassert>
#include <cmath>
#include <cstring>

namespace switchyard::kernels::cpu {
namespace {

SWITCHYARD_VECTORIZED float maximum(const float *values, int64_t count) {
  float largest = values[0];
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < count; ++i)
    largest = values[i] > largest ? values[i] : largest;
  return largest;
}

SWITCHYARD_VECTORIZED float sumOfExponentials(const float *values, int64_t count, float largest) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i)
    sum += fastExp(values[i] - largest);
  return sum;
}

/// As sumOfExponentials, and leaves the exponentials in `values`.
SWITCHYARD_VECTORIZED float exponentials(float *values, int64_t count, float largest) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    float e = fastExp(values[i] - largest);
    values[i] = e;
    sum += e;
  }
  return sum;
}

SWITCHYARD_VECTORIZED void scaled(const float *values, int64_t count, float factor, float *out) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i)
    out[i] = values[i] * factor;
}

SWITCHYARD_VECTORIZED void scaled(const float *values, int64_t count, float factor, BFloat16 *out) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i)
    out[i] = fromFloat<BFloat16>(values[i] * factor);
}

SWITCHYARD_VECTORIZED void addTo(float *sum, const float *values, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i)
    sum[i] += values[i];
}

/// Rows of one task in the steps that go row by row.
constexpr int64_t kRowsPerTask = 16;

/// The sizes of a launch.
struct Sizes {
  int64_t rows, d, v;
  /// Rows of a chunk, columns of a tile, tiles of a chunk.
  int64_t chunk, columns, tiles;
  DType dtype;

  explicit Sizes(const Launch &launch)
      : rows(launch.operands[0].dims[0]), d(launch.operands[0].dims[1]),
        v(launch.operands[1].dims[0]),
        chunk(std::min(cpuCrossEntropyRows(launch.attributes[0].integer, v), rows)),
        columns(crossEntropyColumns(d, v)), tiles(blocksOf(v, columns)),
        dtype(launch.operands[0].dtype) {}

  int64_t columnsOf(int64_t tile) const { return std::min(columns, v - tile * columns); }

  /// The rows that products run with for `live` rows: a size that is prepared, half a larger one.
  int64_t padded(int64_t live) const {
    int64_t size = chunk;
    while (size > kRowsPerTask && (size + 1) / 2 >= live)
      size = (size + 1) / 2;
    return size;
  }

  GemmShape logits(int64_t m, int64_t n) const {
    return {m, n, d, dtype, DType::F32, false, true, false};
  }
  GemmShape weightGradient(int64_t m, int64_t n) const {
    return {n, d, m, dtype, DType::F32, true, false, true};
  }
  GemmShape dataGradient(int64_t m, int64_t n) const {
    return {m, d, n, dtype, DType::F32, false, false, false};
  }
};

std::optional<std::string> prepare(const Launch &launch, bool gradient) {
  Sizes sizes(launch);
  GemmCache &gemms = *contextOf(launch).gemms;
  for (int64_t live = sizes.chunk; live > 0; live = live > 1 ? (live + 1) / 2 : 0) {
    int64_t m = sizes.padded(live);
    for (int64_t n : {std::min(sizes.columns, sizes.v), sizes.v % sizes.columns}) {
      if (auto fault = gemms.prepare(sizes.logits(m, n)))
        return fault;
      if (!gradient)
        continue;
      if (auto fault = gemms.prepare(sizes.weightGradient(m, n)))
        return fault;
      if (auto fault = gemms.prepare(sizes.dataGradient(m, n)))
        return fault;
    }
    if (m <= kRowsPerTask)
      break;
  }
  return std::nullopt;
}

/// The parts of the workspace, each on its own cache lines.
struct Workspace {
  float *logits;       // tiles of [rows of the chunk, columns]
  std::byte *x;        // [rows of the chunk, D]
  float *maxima;       // [rows of the chunk, tiles], then factors
  float *sums;         // [rows of the chunk, tiles]
  float *labels;       // the label's logit of each row
  float *losses;       // of each row
  int32_t *rows;       // the rows that have a label
  std::byte *gradient; // [threads, rows of the chunk, columns]
  int64_t gradientBytes;

  Workspace(const Launch &launch, const Sizes &sizes) {
    int threads = contextOf(launch).pool->threads();
    std::byte *next = launch.workspace.data() + threads * kGemmScratchPerThread;
    auto take = [&](int64_t bytes) {
      std::byte *part = next;
      next += (bytes + 63) / 64 * 64;
      return part;
    };
    int64_t element = byteSize(sizes.dtype);
    logits = reinterpret_cast<float *>(take(sizes.chunk * (sizes.v + sizes.d) * 4));
    x = take(sizes.chunk * sizes.d * element);
    maxima = reinterpret_cast<float *>(take(sizes.chunk * sizes.tiles * 4));
    sums = reinterpret_cast<float *>(take(sizes.chunk * sizes.tiles * 4));
    labels = reinterpret_cast<float *>(take(sizes.chunk * 4));
    losses = reinterpret_cast<float *>(take(sizes.chunk * 4));
    rows = reinterpret_cast<int32_t *>(take(sizes.rows * 4));
    gradientBytes = sizes.chunk * sizes.columns * element;
    gradient = take(threads * gradientBytes);
    assert(next <= launch.workspace.data() + launch.workspace.size());
  }
};

/// One launch. T is the model's dtype.
template <typename T>
class CrossEntropy {
public:
  explicit CrossEntropy(const Launch &launch)
      : launch_(launch), context_(contextOf(launch)), sizes_(launch), workspace_(launch, sizes_),
        x_(launch.operands[0].as<const T>()), w_(launch.operands[1].as<const T>()),
        labels_(launch.operands[2].as<const int32_t>()),
        weights_(launch.operands[3].as<const float>()) {}

  void forward() { *launch_.operands[4].as<float>() = run(false); }

  void gradient() {
    dloss_ = *launch_.operands[4].as<const float>();
    dx_ = launch_.operands[6].as<T>();
    dw_ = launch_.operands[7].as<float>();
    context_.pool->parallelFor(sizes_.tiles, [&](int64_t tile, int) {
      std::fill_n(dw_ + tile * sizes_.columns * sizes_.d, sizes_.columnsOf(tile) * sizes_.d, 0.0f);
    });
    std::memset(static_cast<void *>(dx_), 0, sizes_.rows * sizes_.d * sizeof(T));
    *launch_.operands[5].as<float>() = run(true);
  }

private:
  float run(bool withGradient);
  void gather();
  void computeTile(int64_t tile, int thread, bool keep);
  void finishRow(int64_t row, bool withGradient);
  void differentiateTile(int64_t tile, int thread);
  void sumShares(int64_t row);

  float *tileLogits(int64_t tile) const {
    return workspace_.logits + tile * sizes_.columns * sizes_.chunk;
  }
  const T *tileWeights(int64_t tile) const { return w_ + tile * sizes_.columns * sizes_.d; }
  /// Calls body(row) for the live rows of the chunk, in tasks of some rows.
  template <typename Body>
  void forEachRow(const Body &body) {
    context_.pool->parallelFor(blocksOf(live_, kRowsPerTask), [&](int64_t block, int) {
      int64_t end = std::min(live_, (block + 1) * kRowsPerTask);
      for (int64_t row = block * kRowsPerTask; row < end; ++row)
        body(row);
    });
  }

  const Launch &launch_;
  Context &context_;
  Sizes sizes_;
  Workspace workspace_;
  const T *x_, *w_;
  const int32_t *labels_;
  const float *weights_;
  float dloss_ = 0;
  T *dx_ = nullptr;
  float *dw_ = nullptr;
  /// The chunk's rows, a part of workspace_.rows, and how many they are with and without padding.
  const int32_t *chunkRows_ = nullptr;
  int64_t live_ = 0;
  int64_t padded_ = 0;
};

template <typename T>
float CrossEntropy<T>::run(bool withGradient) {
  int64_t labelled = 0;
  for (int64_t row = 0; row < sizes_.rows; ++row)
    if (labels_[row] >= 0 && labels_[row] < sizes_.v && weights_[row] != 0.0f)
      workspace_.rows[labelled++] = static_cast<int32_t>(row);
  double loss = 0;
  for (int64_t first = 0; first < labelled; first += live_) {
    chunkRows_ = workspace_.rows + first;
    live_ = std::min(sizes_.chunk, labelled - first);
    padded_ = sizes_.padded(live_);
    gather();
    context_.pool->parallelFor(
        sizes_.tiles, [&](int64_t tile, int thread) { computeTile(tile, thread, withGradient); });
    forEachRow([&](int64_t row) { finishRow(row, withGradient); });
    for (int64_t row = 0; row < live_; ++row)
      loss += workspace_.losses[row];
    if (!withGradient)
      continue;
    context_.pool->parallelFor(sizes_.tiles,
                               [&](int64_t tile, int thread) { differentiateTile(tile, thread); });
    forEachRow([&](int64_t row) { sumShares(row); });
  }
  return static_cast<float>(loss);
}

/// The chunk's rows of x, and zeros up to the padded size.
template <typename T>
void CrossEntropy<T>::gather() {
  int64_t rowBytes = sizes_.d * static_cast<int64_t>(sizeof(T));
  for (int64_t row = 0; row < live_; ++row)
    std::memcpy(workspace_.x + row * rowBytes, x_ + chunkRows_[row] * sizes_.d, rowBytes);
  std::memset(workspace_.x + live_ * rowBytes, 0, (padded_ - live_) * rowBytes);
}

template <typename T>
void CrossEntropy<T>::computeTile(int64_t tile, int thread, bool keep) {
  int64_t columns = sizes_.columnsOf(tile);
  float *logits = tileLogits(tile);
  context_.gemms->run(sizes_.logits(padded_, columns), workspace_.x, tileWeights(tile), logits,
                      libraryScratch(launch_, thread), thread);
  for (int64_t row = 0; row < live_; ++row) {
    float *values = logits + row * columns;
    int64_t label = labels_[chunkRows_[row]] - tile * sizes_.columns;
    if (label >= 0 && label < columns)
      workspace_.labels[row] = values[label];
    float largest = maximum(values, columns);
    int64_t at = row * sizes_.tiles + tile;
    workspace_.maxima[at] = largest;
    workspace_.sums[at] =
        keep ? exponentials(values, columns, largest) : sumOfExponentials(values, columns, largest);
  }
}

template <typename T>
void CrossEntropy<T>::finishRow(int64_t row, bool withGradient) {
  float *maxima = workspace_.maxima + row * sizes_.tiles;
  const float *sums = workspace_.sums + row * sizes_.tiles;
  float largest = *std::max_element(maxima, maxima + sizes_.tiles);
  double sum = 0;
  for (int64_t tile = 0; tile < sizes_.tiles; ++tile)
    sum += static_cast<double>(sums[tile]) * fastExp(maxima[tile] - largest);
  double logSumExp = largest + std::log(sum);
  float weight = weights_[chunkRows_[row]];
  workspace_.losses[row] = static_cast<float>(weight * (logSumExp - workspace_.labels[row]));
  if (!withGradient)
    return;
  for (int64_t tile = 0; tile < sizes_.tiles; ++tile)
    maxima[tile] = static_cast<float>(fastExp(maxima[tile] - largest) / sum) * weight * dloss_;
}

template <typename T>
void CrossEntropy<T>::differentiateTile(int64_t tile, int thread) {
  int64_t columns = sizes_.columnsOf(tile);
  float *logits = tileLogits(tile);
  T *gradient = reinterpret_cast<T *>(workspace_.gradient + thread * workspace_.gradientBytes);
  for (int64_t row = 0; row < live_; ++row) {
    const float *e = logits + row * columns;
    float factor = workspace_.maxima[row * sizes_.tiles + tile];
    scaled(e, columns, factor, gradient + row * columns);
    int64_t index = chunkRows_[row];
    int64_t label = labels_[index] - tile * sizes_.columns;
    if (label >= 0 && label < columns)
      gradient[row * columns + label] = fromFloat<T>(e[label] * factor - weights_[index] * dloss_);
  }
  std::memset(static_cast<void *>(gradient + live_ * columns), 0,
              (padded_ - live_) * columns * sizeof(T));
  std::byte *scratch = libraryScratch(launch_, thread);
  context_.gemms->run(sizes_.weightGradient(padded_, columns), gradient, workspace_.x,
                      dw_ + tile * sizes_.columns * sizes_.d, scratch, thread);
  context_.gemms->run(sizes_.dataGradient(padded_, columns), gradient, tileWeights(tile), logits,
                      scratch, thread);
}

template <typename T>
void CrossEntropy<T>::sumShares(int64_t row) {
  float *sum = tileLogits(0) + row * sizes_.d;
  for (int64_t tile = 1; tile < sizes_.tiles; ++tile)
    addTo(sum, tileLogits(tile) + row * sizes_.d, sizes_.d);
  T *out = dx_ + chunkRows_[row] * sizes_.d;
  for (int64_t i = 0; i < sizes_.d; ++i)
    out[i] = fromFloat<T>(sum[i]);
}

} // namespace

std::optional<std::string> prepareLinearCrossEntropy(const Launch &launch) {
  return prepare(launch, false);
}

void runLinearCrossEntropy(const Launch &launch) {
  withFloatType(launch.operands[0].dtype,
                [&](auto type) { CrossEntropy<decltype(type)>(launch).forward(); });
}

std::optional<std::string> prepareLinearCrossEntropyGrad(const Launch &launch) {
  return prepare(launch, true);
}

void runLinearCrossEntropyGrad(const Launch &launch) {
  withFloatType(launch.operands[0].dtype,
                [&](auto type) { CrossEntropy<decltype(type)>(launch).gradient(); });
}

} // namespace switchyard::kernels::cpu
