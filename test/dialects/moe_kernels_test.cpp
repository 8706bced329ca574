// The moe dialect and the table of kernel signatures name the same kernels and attributes: to-plan
// relies on it. It checks operands and results itself, by matchLaunch, in every program it lowers.

#include "dialects/moe/MoE.h"
#include "kernels/signatures/Table.h"

#include "mlir/IR/MLIRContext.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace switchyard {
namespace {

using testing::UnorderedElementsAreArray;

class MoeKernels : public testing::Test {
protected:
  MoeKernels() { context_.loadDialect<moe::MoEDialect>(); }

  mlir::MLIRContext context_;
};

TEST_F(MoeKernels, EachSignatureHasAnOpWithItsAttributes) {
  for (const kernels::Signature *signature : kernels::allSignatures()) {
    std::string name = "moe." + std::string(signature->name);
    auto op = mlir::RegisteredOperationName::lookup(name, &context_);
    ASSERT_TRUE(op.has_value()) << name << " is no op of the moe dialect";
    std::vector<std::string> expected, found;
    for (const kernels::AttributeSpec &attribute : signature->attributes)
      expected.emplace_back(attribute.name);
    for (mlir::StringAttr attribute : op->getAttributeNames())
      found.push_back(attribute.str());
    EXPECT_THAT(found, UnorderedElementsAreArray(expected)) << name;
  }
}

TEST_F(MoeKernels, EachOpButThoseThatPassesRemoveHasASignature) {
  const std::set<std::string> withoutKernel = {"symbol",   "state",   "read",    "write",
                                               "gradient", "experts", "boundary"};
  std::set<std::string> found;
  for (mlir::RegisteredOperationName op : context_.getRegisteredOperations()) {
    llvm::StringRef name = op.getIdentifier().getValue();
    if (name.consume_front("moe.") && !kernels::findSignature(std::string_view(name)))
      found.insert(name.str());
  }
  EXPECT_EQ(found, withoutKernel);
}

} // namespace
} // namespace switchyard
