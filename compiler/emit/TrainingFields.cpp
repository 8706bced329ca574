#include "compiler/emit/TrainingFields.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace switchyard::compiler {

/// Calls visit(name, field) for each field.
template <typename TrainingT, typename Text, typename Visit>
static void visitFields(TrainingT &training, Text &fingerprint, Visit &&visit) {
  visit("model_type", training.modelType);
  visit("fingerprint", fingerprint);
  visit("vocab_size", training.vocabSize);
  visit("num_layers", training.numLayers);
  visit("num_experts", training.numExperts);
  visit("top_k", training.topK);
  visit("active_parameters", training.activeParameters);
  visit("aux_loss_coef", training.auxLossCoef);
  visit("precision", training.precision);
  visit("loss_normalization", training.lossNormalization);
  visit("weight_decay_scope", training.weightDecayScope);
  visit("per_device_train_batch_size", training.perDeviceTrainBatchSize);
  visit("gradient_accumulation_steps", training.gradientAccumulationSteps);
  visit("max_seq_length", training.maxSeqLength);
  visit("packing", training.packing);
}

/// The same for those that a module may leave out, for their defaults.
template <typename TrainingT, typename Visit>
static void visitOptionalFields(TrainingT &training, Visit &&visit) {
  visit("aux_loss_scope", training.auxLossScope);
  visit("sync_each_batch", training.syncEachBatch);
}

namespace {

struct Reader {
  DictionaryAttr dictionary;
  std::string missing;

  template <typename AttributeT>
  AttributeT get(const char *name) {
    auto attribute = dictionary.getAs<AttributeT>(name);
    if (!attribute && missing.empty())
      missing = name;
    return attribute;
  }
  void operator()(const char *name, std::string &field) {
    if (auto attribute = get<StringAttr>(name))
      field = attribute.getValue().str();
  }
  void operator()(const char *name, int64_t &field) {
    if (auto attribute = get<IntegerAttr>(name))
      field = attribute.getInt();
  }
  void operator()(const char *name, double &field) {
    if (auto attribute = get<FloatAttr>(name))
      field = attribute.getValueAsDouble();
  }
  void operator()(const char *name, bool &field) {
    if (auto attribute = get<BoolAttr>(name))
      field = attribute.getValue();
  }
};

struct Writer {
  Builder builder;
  SmallVector<NamedAttribute> fields;

  void add(const char *name, Attribute value) {
    fields.push_back(builder.getNamedAttr(name, value));
  }
  void operator()(const char *name, const std::string &field) {
    add(name, builder.getStringAttr(field));
  }
  void operator()(const char *name, int64_t field) { add(name, builder.getI64IntegerAttr(field)); }
  void operator()(const char *name, double field) { add(name, builder.getF64FloatAttr(field)); }
  void operator()(const char *name, bool field) { add(name, builder.getBoolAttr(field)); }
};

} // namespace

std::string readTraining(DictionaryAttr dictionary, Training &training, std::string &fingerprint) {
  Reader reader{dictionary, {}};
  visitFields(training, fingerprint, reader);
  std::string missing = reader.missing;
  visitOptionalFields(training, reader);
  return missing;
}

DictionaryAttr writeTraining(const Training &training, const std::string &fingerprint,
                             MLIRContext *context) {
  Writer writer{Builder(context), {}};
  visitFields(training, fingerprint, writer);
  visitOptionalFields(training, writer);
  return writer.builder.getDictionaryAttr(writer.fields);
}

} // namespace switchyard::compiler
