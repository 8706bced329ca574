#include "tools/moe-bench/ProductReference.h"

#include "tools/moe-bench/RandomValues.h"

#include <cmath>
#include <map>
#include <numeric>

namespace switchyard::bench {

namespace {

/// Of each result as many rows, and as many neighbouring columns of each, are looked at; and the
/// weights' gradients of as many slots, each of which takes a whole row's product.
constexpr int64_t kRows = 32, kColumns = 16, kSlots = 4;

using Values = std::vector<double>;

/// Columns [begin, begin + count) of a matrix.
struct Columns {
  int64_t begin = 0, count = 0;
};

/// Random places, the same each time.
class Places {
public:
  int64_t below(int64_t limit) {
    return static_cast<int64_t>(randomBits(draws_++) % static_cast<uint64_t>(limit));
  }
  Columns columns(int64_t width) {
    const int64_t count = std::min(kColumns, width);
    return {below(width - count + 1), count};
  }
  /// The first, the last, others.
  std::vector<int64_t> rows(int64_t count) {
    std::vector<int64_t> rows = {0, count - 1};
    while (static_cast<int64_t>(rows.size()) < kRows)
      rows.push_back(below(count));
    return rows;
  }

private:
  uint64_t draws_ = 0;
};

/// A tensor that fill() filled, as a matrix of rows that `numbers` takes in its order.
class Matrix {
public:
  Matrix() = default;
  Matrix(std::vector<float> values, int64_t width, const std::vector<int32_t> *numbers)
      : values_(std::move(values)), width_(width), numbers_(numbers) {}

  double at(int64_t row, int64_t column) const {
    return values_[((numbers_ ? (*numbers_)[row] : row) * width_ + column) % kFillPeriod];
  }

private:
  std::vector<float> values_;
  int64_t width_ = 0;
  const std::vector<int32_t> *numbers_ = nullptr; // none: row i is row i
};

struct Activation {
  double silu = 0, slope = 0;

  explicit Activation(double x) {
    const double sigmoid = 1 / (1 + std::exp(-x));
    silu = x * sigmoid;
    slope = sigmoid * (1 + x * (1 - sigmoid));
  }
};

class Reference {
public:
  Reference(DeviceTensors &tensors, const ProductShape &shape, const ExpertProduct &product)
      : tensors_(tensors), n_(shape.n), k_(shape.k), rows_(shape.rows), product_(product) {}

  Result<double> error() {
    SY_RETURN_IF_ERROR(readInputs());
    SY_RETURN_IF_ERROR(compare());
    double worst = 0;
    for (const auto &[name, sums] : sums_) {
      const double error = std::sqrt(sums.difference / (sums.wanted > 0 ? sums.wanted : 1));
      if (std::isnan(error))
        return error;
      worst = std::max(worst, error);
    }
    return worst;
  }

private:
  /// Squares, summed.
  struct Sums {
    double difference = 0, wanted = 0;
  };

  Result<Matrix> matrix(const std::string &name, int64_t width,
                        const std::vector<int32_t> *numbers = nullptr) {
    SY_ASSIGN_OR_RETURN(std::vector<float> values,
                        tensors_.read(name, 0, std::min(tensors_[name].count(), kFillPeriod)));
    return Matrix(std::move(values), width, numbers);
  }

  Status readInputs() {
    struct Input {
      const char *name;
      Matrix &matrix;
      int64_t width;
      const std::vector<int32_t> *numbers = nullptr;
    };
    const Input inputs[] = {{"x", x_, k_},
                            {"x_tokens", x_, k_, &rows_.tokenOfRow},
                            {"dy", dy_, n_},
                            {"dy_tokens", dy_, n_, &rows_.tokenOfRow},
                            {"w", w_, k_},
                            {"w_dense", w_, k_},
                            {"hidden", hidden_, 2 * k_},
                            {"weight_of_row", weights_, 1}};
    for (const Input &input : inputs)
      if (product_.takes(input.name)) {
        SY_ASSIGN_OR_RETURN(input.matrix, matrix(input.name, input.width, input.numbers));
      }
    return {};
  }

  Status compare() {
    const auto rows = static_cast<int64_t>(rows_.tokenOfRow.size());
    switch (product_.kind) {
    case ExpertProduct::Kind::Forward:
    case ExpertProduct::Kind::Dense:
      for (int64_t row : places_.rows(rows)) {
        const Columns columns = places_.columns(n_);
        SY_RETURN_IF_ERROR(check("y", row, columns, forward(row, columns)));
      }
      return {};
    case ExpertProduct::Kind::Dgrad:
      for (int64_t row : places_.rows(rows)) {
        const Columns columns = places_.columns(k_);
        SY_RETURN_IF_ERROR(check("dx", row, columns, dgrad(row, columns)));
      }
      return {};
    case ExpertProduct::Kind::Wgrad:
      for (int64_t row : places_.rows(rows)) {
        SY_RETURN_IF_ERROR(compareWgrad(rows_.expertOfRow[row]));
        SY_RETURN_IF_ERROR(
            compareWgrad(places_.below(static_cast<int64_t>(rows_.groupSizes.size()))));
      }
      return {};
    case ExpertProduct::Kind::Gated:
      for (int64_t row : places_.rows(rows))
        SY_RETURN_IF_ERROR(compareGated(row));
      return {};
    case ExpertProduct::Kind::DgradGated:
      for (int64_t row : places_.rows(rows))
        SY_RETURN_IF_ERROR(compareDgradGated(row));
      for (int64_t i = 0; i < kSlots && product_.takes("dweights"); ++i)
        SY_RETURN_IF_ERROR(compareWeight(places_.below(rows)));
      return {};
    }
    return {};
  }

  Status compareWgrad(int64_t expert) {
    const int64_t begin =
        std::accumulate(rows_.groupSizes.begin(), rows_.groupSizes.begin() + expert, int64_t{0});
    const int64_t n = places_.below(n_);
    const Columns columns = places_.columns(k_);
    Values wanted(columns.count);
    for (int64_t row = begin; row < begin + rows_.groupSizes[expert]; ++row)
      for (int64_t i = 0; i < columns.count; ++i)
        wanted[i] += dy_.at(row, n) * x_.at(row, columns.begin + i);
    return check("dw", expert * n_ + n, columns, wanted);
  }

  Status compareGated(int64_t row) {
    const int64_t width = n_ / 2;
    const Columns gate = places_.columns(width), up = {gate.begin + width, gate.count};
    const Values gates = forward(row, gate), ups = forward(row, up);
    Values activated;
    for (int64_t i = 0; i < gate.count; ++i)
      activated.push_back(Activation(gates[i]).silu * ups[i]);
    SY_RETURN_IF_ERROR(check("y", row, gate, gates));
    SY_RETURN_IF_ERROR(check("y", row, up, ups));
    return check("activated", row, gate, activated);
  }

  Status compareDgradGated(int64_t row) {
    const Columns gate = places_.columns(k_), up = {gate.begin + k_, gate.count};
    const Values gradients = dgrad(row, gate);
    const double weight = product_.takes("weight_of_row") ? weights_.at(row, 0) : 1;
    Values dgates, dups, activated;
    for (int64_t i = 0; i < gate.count; ++i) {
      const Activation activation(hidden_.at(row, gate.begin + i));
      const double value = hidden_.at(row, up.begin + i), gradient = weight * gradients[i];
      dgates.push_back(gradient * value * activation.slope);
      dups.push_back(gradient * activation.silu);
      activated.push_back(weight * activation.silu * value);
    }
    SY_RETURN_IF_ERROR(check("dhidden", row, gate, dgates));
    SY_RETURN_IF_ERROR(check("dhidden", row, up, dups));
    return check("activated", row, gate, activated);
  }

  Status compareWeight(int64_t slot) {
    const int64_t row = rows_.rowOfSlot[slot];
    const Values gradients = dgrad(row, {0, k_});
    double wanted = 0;
    for (int64_t i = 0; i < k_; ++i)
      wanted += gradients[i] * Activation(hidden_.at(row, i)).silu * hidden_.at(row, k_ + i);
    return check("dweights", 0, {slot, 1}, {wanted});
  }

  /// Elements of a row's product with its expert's matrix.
  Values forward(int64_t row, Columns columns) const {
    Values sums(columns.count);
    for (int64_t i = 0; i < columns.count; ++i)
      for (int64_t k = 0; k < k_; ++k)
        sums[i] += x_.at(row, k) * w_.at(firstMatrixRow(row) + columns.begin + i, k);
    return sums;
  }

  Values dgrad(int64_t row, Columns columns) const {
    Values sums(columns.count);
    for (int64_t n = 0; n < n_; ++n) {
      const double factor = dy_.at(row, n);
      for (int64_t i = 0; i < columns.count; ++i)
        sums[i] += factor * w_.at(firstMatrixRow(row) + n, columns.begin + i);
    }
    return sums;
  }

  /// Of the matrix of a row's expert, in all of them.
  int64_t firstMatrixRow(int64_t row) const {
    return product_.kind == ExpertProduct::Kind::Dense ? 0 : rows_.expertOfRow[row] * n_;
  }

  /// Compares some columns of a result's row.
  Status check(const std::string &name, int64_t row, Columns columns, const Values &wanted) {
    const kernels::Tensor &tensor = tensors_[name];
    const int64_t width = tensor.dims[tensor.rank - 1];
    SY_ASSIGN_OR_RETURN(const std::vector<float> found,
                        tensors_.read(name, row * width + columns.begin, columns.count));
    Sums &sums = sums_[name];
    for (int64_t i = 0; i < columns.count; ++i) {
      const double difference = found[i] - wanted[i];
      sums.difference += difference * difference;
      sums.wanted += wanted[i] * wanted[i];
    }
    return {};
  }

  DeviceTensors &tensors_;
  const int64_t n_, k_;
  const RoutedRows &rows_;
  const ExpertProduct &product_;
  Places places_;
  Matrix x_, dy_, w_, hidden_, weights_;
  std::map<std::string, Sums> sums_;
};

} // namespace

Result<double> productError(DeviceTensors &tensors, const ProductShape &shape,
                            const ExpertProduct &product) {
  return Reference(tensors, shape, product).error();
}

} // namespace switchyard::bench
