#include "compiler/import/ModelBuilder.h"

#include "compiler/import/Parameters.h"
#include "dialects/moe/MoE.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include <algorithm>
#include <cmath>
#include <map>

using namespace mlir;

namespace switchyard::compiler {

/// Rows that the program `logits` yields.
static constexpr int64_t kLogitsRows = 64;
/// The cross entropy holds the float32 logits of so many bytes at a time, at most: a GPU's products
/// want thousands of rows.
static constexpr int64_t kLogitsChunkBytes = int64_t{640} << 20;

/// Rows per chunk: a power of two.
static int64_t crossEntropyChunk(int64_t vocabSize) {
  int64_t rows = 16384;
  while (rows > 32 && rows * vocabSize * 4 > kLogitsChunkBytes)
    rows /= 2;
  return rows;
}

static Attribute sourceAttr(Builder &builder, const Source &source) {
  if (source.kind == Source::Kind::Leaf)
    return builder.getStringAttr(source.name);
  SmallVector<Attribute> parts;
  for (const Source &child : source.children)
    parts.push_back(sourceAttr(builder, child));
  if (source.kind == Source::Kind::Concat)
    return moe::ConcatAttr::get(builder.getContext(), parts, source.sizes);
  return moe::StackAttr::get(builder.getContext(), source.index, source.begin, source.end,
                             parts.front());
}

namespace {

/// What stands the same in every program.
class ModelBuilder {
public:
  ModelBuilder(const ModelConfig &config, const std::vector<Parameter> &parameters,
               const ImportOptions &options, const PassBounds &bounds, const std::string &precision,
               MLIRContext &context)
      : config_(config), options_(options), bounds_(bounds), precision_(precision),
        parameters_(parameters), builder_(&context), loc_(builder_.getUnknownLoc()),
        element_(precision == "f32" ? Type(builder_.getF32Type()) : builder_.getBF16Type()) {}

  OwningOpRef<ModuleOp> build(const std::string &fingerprint) {
    OwningOpRef<ModuleOp> module = ModuleOp::create(loc_);
    module_ = *module;
    builder_.setInsertionPointToEnd(module_.getBody());
    module_->setAttr("moe.model", description(fingerprint));
    declareSymbols();
    for (const Parameter &parameter : parameters_)
      declareState(parameter);
    buildEvaluate();
    buildLogits();
    return module;
  }

private:
  DictionaryAttr description(const std::string &fingerprint);
  void declareSymbols();
  void declareState(const Parameter &parameter);
  void buildEvaluate();
  void buildLogits();

  struct NamedType {
    StringRef name;
    Type type;
  };
  /// Begins a function at the module's end; its arguments are found by name with argument().
  func::FuncOp beginFunction(StringRef name, ArrayRef<NamedType> inputs,
                             ArrayRef<NamedType> results);
  Value argument(StringRef name) const { return arguments_.at(name.str()); }

  /// The hidden states [T, D] before the last norm; every layer's router statistics are appended.
  Value buildLayers(SmallVectorImpl<Value> &statistics);
  Value buildAttention(Value x, const std::string &layer);
  Value buildExperts(Value x, const std::string &layer, SmallVectorImpl<Value> &statistics);

  Value read(const std::string &state) {
    return moe::ReadOp::create(builder_, loc_, states_.at(state));
  }
  Value readHead() { return read(config_.tiedEmbeddings ? "embed_tokens" : "lm_head"); }
  Value norm(Value x, const std::string &state) {
    return moe::RmsNormOp::create(builder_, loc_, x, read(state), config_.rmsNormEps);
  }
  Value linear(Value x, const std::string &state) {
    return moe::LinearOp::create(builder_, loc_, x, read(state));
  }

  /// A tensor whose first extent is `symbol` + offset.
  RankedTensorType rows(StringRef symbol, ArrayRef<int64_t> rest, Type element,
                        int64_t offset = 0) {
    SmallVector<int64_t> shape = {ShapedType::kDynamic};
    shape.append(rest.begin(), rest.end());
    return RankedTensorType::get(shape, element,
                                 moe::RowsAttr::get(builder_.getContext(), 1, symbol, offset));
  }
  RankedTensorType tensor(ArrayRef<int64_t> shape, Type element) {
    return RankedTensorType::get(shape, element);
  }

  const ModelConfig &config_;
  const ImportOptions &options_;
  const PassBounds &bounds_;
  const std::string &precision_;
  const std::vector<Parameter> &parameters_;
  OpBuilder builder_;
  Location loc_;
  Type element_;
  ModuleOp module_;
  std::map<std::string, moe::StateOp> states_;
  std::map<std::string, Value> arguments_;
};

DictionaryAttr ModelBuilder::description(const std::string &fingerprint) {
  auto integer = [&](StringRef name, int64_t value) {
    return builder_.getNamedAttr(name, builder_.getI64IntegerAttr(value));
  };
  auto text = [&](StringRef name, StringRef value) {
    return builder_.getNamedAttr(name, builder_.getStringAttr(value));
  };
  const double coefficient = auxLossCoef(options_, config_);
  return builder_.getDictionaryAttr({
      text("model_type", config_.modelType),
      text("fingerprint", fingerprint),
      integer("vocab_size", config_.vocabSize),
      integer("num_layers", config_.numLayers),
      integer("num_experts", config_.numExperts),
      integer("top_k", config_.topK),
      integer("active_parameters", activeParameters(config_)),
      builder_.getNamedAttr("aux_loss_coef", builder_.getF64FloatAttr(coefficient)),
      text("precision", precision_),
      text("loss_normalization", options_.lossNormalization),
      text("weight_decay_scope", options_.weightDecayScope),
      integer("per_device_train_batch_size", options_.perDeviceTrainBatchSize),
      integer("gradient_accumulation_steps", options_.gradientAccumulationSteps),
      integer("max_seq_length", options_.maxSeqLength),
      builder_.getNamedAttr("packing", builder_.getBoolAttr(options_.packing)),
      text("aux_loss_scope", options_.auxLossScope),
      builder_.getNamedAttr("sync_each_batch", builder_.getBoolAttr(options_.syncEachBatch)),
      text("step_program", bounds_.fused ? "fused" : "split"),
  });
}

void ModelBuilder::declareSymbols() {
  auto declare = [&](StringRef name, int64_t bound, int64_t minimum) {
    moe::SymbolOp::create(builder_, loc_, name, bound,
                          minimum ? builder_.getI64IntegerAttr(minimum) : IntegerAttr(),
                          FloatAttr());
  };
  declare("T", bounds_.tokens, bounds_.minimumTokens);
  declare("S", bounds_.segments, 0);
  declare("M", bounds_.microBatches, 0);
}

void ModelBuilder::declareState(const Parameter &parameter) {
  std::optional<int64_t> layer;
  if (parameter.layer >= 0)
    layer = parameter.layer;
  const bool decay = !parameter.norm || options_.weightDecayScope == "all";
  states_[parameter.name] = moe::StateOp::create(
      builder_, loc_, parameter.name, tensor(parameter.shape, element_),
      sourceAttr(builder_, parameter.source), layer, decay, parameter.moduleName);
}

func::FuncOp ModelBuilder::beginFunction(StringRef name, ArrayRef<NamedType> inputs,
                                         ArrayRef<NamedType> results) {
  SmallVector<Type> inputTypes, resultTypes;
  for (const NamedType &input : inputs)
    inputTypes.push_back(input.type);
  for (const NamedType &result : results)
    resultTypes.push_back(result.type);
  builder_.setInsertionPointToEnd(module_.getBody());
  auto function =
      func::FuncOp::create(builder_, loc_, name, builder_.getFunctionType(inputTypes, resultTypes));
  Block *block = function.addEntryBlock();
  arguments_.clear();
  for (auto [i, input] : llvm::enumerate(inputs)) {
    function.setArgAttr(i, "moe.name", builder_.getStringAttr(input.name));
    arguments_[input.name.str()] = block->getArgument(i);
  }
  for (auto [i, result] : llvm::enumerate(results))
    function.setResultAttr(i, "moe.name", builder_.getStringAttr(result.name));
  builder_.setInsertionPointToStart(block);
  return function;
}

void ModelBuilder::buildEvaluate() {
  Type f32 = builder_.getF32Type(), i32 = builder_.getI32Type();
  Type scalar = tensor({}, f32);
  beginFunction("evaluate",
                {{"input_ids", rows("T", {}, i32)},
                 {"position_ids", rows("T", {}, i32)},
                 {"cu_seqlens", rows("S", {}, i32, 1)},
                 {"labels", rows("T", {}, i32)},
                 {"loss_weights", rows("T", {}, f32)},
                 {"micro_batch_ids", rows("T", {}, i32)},
                 {"aux_weights", rows("M", {}, f32)}},
                {{"loss", scalar},
                 {"aux_loss", scalar},
                 {"expert_counts", tensor({config_.numLayers, config_.numExperts}, f32)}});
  SmallVector<Value> statistics;
  Value hidden = norm(buildLayers(statistics), "norm");
  Value loss = moe::LinearCrossEntropyOp::create(builder_, loc_, hidden, readHead(),
                                                 argument("labels"), argument("loss_weights"),
                                                 crossEntropyChunk(config_.vocabSize));
  auto balance = moe::LoadBalanceLossOp::create(builder_, loc_, argument("aux_weights"), statistics,
                                                config_.topK);
  if (double coefficient = auxLossCoef(options_, config_); coefficient != 0) {
    Value scaled = moe::ScaleOp::create(builder_, loc_, balance.getLoss(), coefficient);
    loss = moe::AddOp::create(builder_, loc_, loss, scaled);
  }
  func::ReturnOp::create(builder_, loc_,
                         ValueRange{loss, balance.getLoss(), balance.getExpertCounts()});
}

void ModelBuilder::buildLogits() {
  Type i32 = builder_.getI32Type();
  beginFunction("logits",
                {{"input_ids", rows("T", {}, i32)},
                 {"position_ids", rows("T", {}, i32)},
                 {"cu_seqlens", rows("S", {}, i32, 1)},
                 {"micro_batch_ids", rows("T", {}, i32)},
                 {"rows", tensor({kLogitsRows}, i32)}},
                {{"logits", tensor({kLogitsRows, config_.vocabSize}, element_)}});
  SmallVector<Value> statistics;
  Value all = buildLayers(statistics);
  Value chosen = moe::GatherRowsOp::create(builder_, loc_, all, argument("rows"));
  Value hidden = norm(chosen, "norm");
  Value logits = moe::LinearOp::create(builder_, loc_, hidden, readHead());
  func::ReturnOp::create(builder_, loc_, logits);
}

Value ModelBuilder::buildLayers(SmallVectorImpl<Value> &statistics) {
  Value x = moe::EmbeddingOp::create(builder_, loc_, read("embed_tokens"), argument("input_ids"));
  for (int64_t layer = 0; layer < config_.numLayers; ++layer) {
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    x = moe::AddOp::create(builder_, loc_, x, buildAttention(x, prefix));
    x = moe::AddOp::create(builder_, loc_, x, buildExperts(x, prefix, statistics));
    x = moe::BoundaryOp::create(builder_, loc_, x, layer);
  }
  return x;
}

Value ModelBuilder::buildAttention(Value x, const std::string &layer) {
  const int64_t heads = config_.numHeads, kvHeads = config_.numKvHeads, dim = config_.headDim;
  Value qkv = linear(norm(x, layer + "input_norm"), layer + "attention.qkv");
  if (config_.qkNorm) {
    Value qWeight = read(layer + "attention.q_norm");
    Value kWeight = read(layer + "attention.k_norm");
    qkv = moe::QkNormOp::create(builder_, loc_, qkv, qWeight, kWeight, heads, kvHeads, dim,
                                config_.rmsNormEps);
  }
  qkv = moe::RotaryOp::create(builder_, loc_, qkv, argument("position_ids"), heads, kvHeads, dim,
                              config_.ropeTheta, /*inverse=*/false);
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  auto attention = moe::AttentionOp::create(builder_, loc_, qkv, argument("cu_seqlens"), heads,
                                            kvHeads, dim, scale, config_.window);
  return linear(attention.getY(), layer + "attention.output");
}

Value ModelBuilder::buildExperts(Value x, const std::string &layer,
                                 SmallVectorImpl<Value> &statistics) {
  Value hidden = norm(x, layer + "experts_norm");
  Value logits = linear(hidden, layer + "router");
  Type weights = config_.routerWeightsInF32 ? Type(builder_.getF32Type()) : element_;
  auto router = moe::RouterOp::create(builder_, loc_, logits, argument("micro_batch_ids"),
                                      config_.topK, "softmax", config_.renormalize, weights,
                                      moe::RowsAttr::get(builder_.getContext(), "M"));
  statistics.push_back(router.getStatistics());
  Value gateUp = read(layer + "experts.gate_up");
  Value down = read(layer + "experts.down");
  return moe::ExpertsOp::create(builder_, loc_, hidden, router.getWeights(), router.getExperts(),
                                gateUp, down, "silu");
}

} // namespace

double auxLossCoef(const ImportOptions &options, const ModelConfig &config) {
  if (options.routerAuxLossCoef >= 0)
    return options.routerAuxLossCoef;
  return config.auxLossEnabled ? config.auxLossCoef : 0;
}

OwningOpRef<ModuleOp> buildModel(const ModelConfig &config,
                                 const std::vector<Parameter> &parameters,
                                 const ImportOptions &options, const PassBounds &bounds,
                                 const std::string &precision, const std::string &fingerprint,
                                 MLIRContext &context) {
  return ModelBuilder(config, parameters, options, bounds, precision, context).build(fingerprint);
}

} // namespace switchyard::compiler
