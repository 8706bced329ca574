// The model families that can be imported: one row per value of `model_type`, one file per family.
#pragma once

#include "compiler/import/ConfigReader.h"
#include "compiler/import/ModelConfig.h"

#include <span>
#include <string_view>

namespace switchyard::compiler {

struct Family {
  std::string_view modelType;    // config.json's model_type
  std::string_view architecture; // and the one entry of its `architectures`
  /// Reads the fields that are the family's own and checks them. The shared ones (readSharedFields)
  /// are already read.
  void (*read)(ConfigReader &reader, ModelConfig &config);
  TensorNames names;
};

Family mixtralFamily();
Family olmoeFamily();

/// All families, ordered by model_type.
std::span<const Family> allFamilies();

/// The family called `modelType`, or null.
const Family *findFamily(std::string_view modelType);

/// Reads the fields that mean the same in every family and checks them against each other.
void readSharedFields(ConfigReader &reader, ModelConfig &config);

/// Reads config.json's object: picks the family, reads all fields, refuses what is left over.
Result<ModelConfig> readModelConfig(const std::string &path, const Json &object);

} // namespace switchyard::compiler
