#include "tools/moe-bench/ShapeBenchmark.h"

#include "tools/moe-bench/ExpertProducts.h"
#include "tools/moe-bench/MoeLayer.h"

#include <algorithm>

namespace switchyard::bench {

namespace {

Status timeLayer(ShapeTimer &timer, const NamedShape &named, LayerKernels kernels,
                 bool eachKernel) {
  const LayerShape &shape = named.shape;
  SY_ASSIGN_OR_RETURN(
      std::unique_ptr<MoeLayer> layer,
      MoeLayer::create(timer.device(), timer.target(), shape, timer.dtype(), kernels));
  const ShapeTimer::Work directions[] = {[&] { return layer->forward(); },
                                         [&]() -> Status {
                                           SY_RETURN_IF_ERROR(layer->forward());
                                           return layer->backward();
                                         }};
  SY_ASSIGN_OR_RETURN(const std::vector<std::vector<double>> times, timer.timeInTurn(directions));
  const std::vector<double> &forward = times[0], &both = times[1];
  std::vector<double> backward;
  for (size_t i = 0; i < both.size(); ++i)
    backward.push_back(both[i] - forward[i]);
  const double flops = 6.0 * static_cast<double>(shape.tokens * shape.topK) *
                       static_cast<double>(shape.width * shape.expertSize);
  const auto tokens = static_cast<double>(shape.tokens);
  const std::string name = "layer " + named.name;
  Measurement kept;
  kept.bytes = {{"kept_bytes", layer->keptBytes()}};
  SY_RETURN_IF_ERROR(
      timer.print(name + " forward", forward, {.tokens = tokens, .flops = flops}, std::move(kept)));
  SY_RETURN_IF_ERROR(
      timer.print(name + " forward+backward", both, {.tokens = tokens, .flops = 3 * flops}));
  SY_RETURN_IF_ERROR(timer.print(name + " backward", backward, {.flops = 2 * flops}));
  if (!eachKernel)
    return {};
  const std::vector<std::string> kernelNames = layer->kernels();
  for (size_t i = 0; i < kernelNames.size(); ++i) {
    SY_ASSIGN_OR_RETURN(const std::vector<double> own, timer.time([&] { return layer->run(i); }));
    SY_RETURN_IF_ERROR(
        timer.print(name + " kernel " + std::to_string(i) + " " + kernelNames[i], own, {}));
  }
  return {};
}

constexpr const char *kCopy = "copy";

/// Whether its FLOPs, and so its time, are the same for all routings.
bool isDense(const ExpertProduct &product) {
  return product.kind == ExpertProduct::Kind::Dense;
}

/// moe-bench grouped-gemm on one device.
class ProductBenchmark {
public:
  ProductBenchmark(const ProductArguments &arguments, ShapeTimer &timer)
      : arguments_(arguments), timer_(timer),
        // More than this is wrong, and no rounding.
        tolerance_(timer.dtype() == kernels::DType::F32 ? 1e-4 : 0.02) {}

  Status run(const std::vector<NamedShape> &shapes) {
    if (isChosen(kCopy))
      SY_RETURN_IF_ERROR(timeCopy());
    if (isChosen("dense"))
      SY_RETURN_IF_ERROR(timeSquare());
    for (const NamedShape &shape : shapes) {
      SY_RETURN_IF_ERROR(timeMatrix(shape, "gate_up", ExpertMatrix::GateUp));
      SY_RETURN_IF_ERROR(timeMatrix(shape, "down", ExpertMatrix::Down));
    }
    return wrong_.empty() ? Status() : Status::failed("wrong results: " + wrong_);
  }

private:
  bool isChosen(const std::string &name) const {
    return arguments_.cases.empty() || std::ranges::count(arguments_.cases, name) > 0;
  }

  /// What the device's memory can do.
  Status timeCopy() {
    const int64_t bytes = int64_t{1} << (timer_.isCuda() ? 30 : 24);
    DeviceTensors tensors(timer_.device(), timer_.target());
    for (const char *name : {"from", "to"})
      SY_RETURN_IF_ERROR(tensors.allocate(name, kernels::DType::F32, {bytes / 4}));
    SY_RETURN_IF_ERROR(tensors.fill("from", 1));
    SY_ASSIGN_OR_RETURN(std::vector<double> times, timer_.time([&] {
      return timer_.device().copy(tensors["to"].data, tensors["from"].data, bytes);
    }));
    return timer_.print(kCopy, times, {.bytes = 2.0 * static_cast<double>(bytes)});
  }

  /// What a library's product reaches where nothing but multiplying takes time: a GPU's real peak.
  Status timeSquare() {
    const int64_t extent = timer_.isCuda() ? 8192 : 256;
    const LayerShape square{
        .tokens = extent, .width = extent, .expertSize = extent / 2, .experts = 1, .topK = 1};
    const auto dense = std::ranges::find_if(expertProducts(), isDense);
    const ExpertProduct *const products[] = {&*dense};
    SY_ASSIGN_OR_RETURN(std::unique_ptr<ExpertProducts> matrices,
                        ExpertProducts::create(timer_.device(), timer_.target(), square,
                                               ExpertMatrix::GateUp, timer_.dtype(), products));
    SY_RETURN_IF_ERROR(matrices->route(Routing::Balanced));
    return timeProduct("dense square " + std::to_string(extent), *matrices, *dense);
  }

  Status timeMatrix(const NamedShape &shape, const std::string &matrixName, ExpertMatrix matrix) {
    std::vector<const ExpertProduct *> products;
    for (const ExpertProduct &product : expertProducts())
      if (isChosen(product.name) && product.only.value_or(matrix) == matrix)
        products.push_back(&product);
    if (products.empty())
      return {};
    const std::string name = "grouped_gemm " + shape.name + " " + matrixName;
    SY_ASSIGN_OR_RETURN(std::unique_ptr<ExpertProducts> matrices,
                        ExpertProducts::create(timer_.device(), timer_.target(), shape.shape,
                                               matrix, timer_.dtype(), products));
    for (const std::string &routing : arguments_.routings) {
      SY_RETURN_IF_ERROR(matrices->route(routingOf(routing)));
      for (const ExpertProduct *product : products)
        if (!isDense(*product))
          SY_RETURN_IF_ERROR(
              timeProduct(name + " " + routing + " " + product->name, *matrices, *product));
    }
    if (isDense(*products.back()))
      return timeProduct(name + " dense", *matrices, *products.back());
    return {};
  }

  Status timeProduct(const std::string &name, ExpertProducts &matrices,
                     const ExpertProduct &product) {
    SY_ASSIGN_OR_RETURN(std::unique_ptr<PreparedLaunch> launch, matrices.prepare(product));
    SY_ASSIGN_OR_RETURN(std::vector<double> times,
                        timer_.time([&] { return timer_.device().run(*launch); }));
    Measurement more;
    more.bytes = {{"weight_bytes", matrices.weightBytes(product)}};
    SY_ASSIGN_OR_RETURN(more.error, matrices.error(product));
    if (!(*more.error <= tolerance_))
      wrong_ += (wrong_.empty() ? "" : ", ") + name;
    if (!isDense(product))
      more.groupSizes = matrices.groupSizes();
    return timer_.print(
        name, times,
        {.flops = matrices.flops(), .bytes = static_cast<double>(matrices.bytes(product))},
        std::move(more));
  }

  const ProductArguments &arguments_;
  ShapeTimer &timer_;
  double tolerance_;
  std::string wrong_; // names of cases
};

} // namespace

Status runLayerBenchmark(const LayerArguments &arguments) {
  SY_ASSIGN_OR_RETURN(const std::vector<NamedShape> shapes, namedShapes(arguments));
  const LayerKernels kernels = !arguments.fuse    ? LayerKernels::Single
                               : arguments.gather ? LayerKernels::Gathered
                                                  : LayerKernels::Fused;
  ShapeTimer timer(arguments);
  SY_RETURN_IF_ERROR(timer.create());
  for (const NamedShape &shape : shapes)
    SY_RETURN_IF_ERROR(timeLayer(timer, shape, kernels, arguments.kernels));
  return {};
}

std::vector<std::string> productCases() {
  std::vector<std::string> names;
  for (const ExpertProduct &product : expertProducts())
    names.emplace_back(product.name);
  names.emplace_back(kCopy);
  return names;
}

Status runGroupedGemmBenchmark(const ProductArguments &arguments) {
  SY_ASSIGN_OR_RETURN(const std::vector<NamedShape> shapes, namedShapes(arguments));
  ShapeTimer timer(arguments);
  SY_RETURN_IF_ERROR(timer.create());
  return ProductBenchmark(arguments, timer).run(shapes);
}

} // namespace switchyard::bench
