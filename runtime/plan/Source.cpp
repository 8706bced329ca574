#include "runtime/plan/Source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_set>

namespace switchyard {

Source leafSource(std::string name) {
  Source source;
  source.name = std::move(name);
  return source;
}

Source concatSource(std::vector<Source> children, std::vector<int64_t> sizes) {
  Source source;
  source.kind = Source::Kind::Concat;
  source.children = std::move(children);
  source.sizes = std::move(sizes);
  return source;
}

Source stackSource(std::string index, int64_t begin, int64_t end, Source child) {
  Source source;
  source.kind = Source::Kind::Stack;
  source.index = std::move(index);
  source.begin = begin;
  source.end = end;
  source.children.push_back(std::move(child));
  return source;
}

std::string shapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

namespace {

/// An index variable that is bound where the walk stands.
struct Binding {
  std::string index;
  int64_t value = 0;
};

class Resolver {
public:
  explicit Resolver(const LeafRows &leafRows) : leafRows_(leafRows) {}

  Status visit(const Source &source, std::vector<int64_t> shape) {
    if (++depth_ > kMaxSourceDepth)
      return Status::invalidInput(
          fmt::format("the source is nested deeper than {}", kMaxSourceDepth));
    Status status = visitKind(source, std::move(shape));
    --depth_;
    return status;
  }

  std::vector<SourceSlice> slices;

private:
  Status visitKind(const Source &source, std::vector<int64_t> shape) {
    switch (source.kind) {
    case Source::Kind::Leaf:
      return leaf(source, std::move(shape));
    case Source::Kind::Concat:
      return concat(source, std::move(shape));
    case Source::Kind::Stack:
      return stack(source, std::move(shape));
    }
    return Status::invalidInput("the source is of an unknown kind");
  }

  Status leaf(const Source &source, std::vector<int64_t> shape) {
    SY_ASSIGN_OR_RETURN(std::string name, nameOf(source));
    if (static_cast<int64_t>(slices.size()) >= kMaxSourceSlices)
      return Status::invalidInput(
          fmt::format("the source names more than {} tensors", kMaxSourceSlices));
    if (!seen_.insert(name).second)
      return Status::invalidInput(fmt::format("the source names the tensor \"{}\" twice", name));
    int64_t count = 1; // no overflow: the state's own product is within kMaxSourceElements, and a
                       // part is not larger
    for (int64_t extent : shape)
      count *= extent;
    slices.push_back({std::move(name), std::move(shape), place_, place_ + count});
    place_ += count;
    return {};
  }

  /// The leaf's name with the indices' values in place of "{index}".
  Result<std::string> nameOf(const Source &source) {
    if (source.name.empty())
      return Status::invalidInput("the source has a tensor without a name");
    if (!source.children.empty())
      return Status::invalidInput(
          fmt::format("the tensor \"{}\" of the source has parts", source.name));
    std::string name;
    size_t used = 0; // a bit per binding
    for (size_t at = 0; at < source.name.size();) {
      if (source.name[at] != '{' && source.name[at] != '}') {
        name += source.name[at++];
        continue;
      }
      size_t close = source.name.find('}', at);
      auto bound =
          std::ranges::find(bindings_, source.name.substr(at + 1, close - at - 1), &Binding::index);
      if (source.name[at] == '}' || close == std::string::npos || bound == bindings_.end())
        return Status::invalidInput(fmt::format(
            "the tensor name \"{}\" has braces around what is no index here", source.name));
      used |= size_t{1} << (bound - bindings_.begin());
      name += std::to_string(bound->value);
      at = close + 1;
    }
    for (size_t i = 0; i < bindings_.size(); ++i)
      if (!(used >> i & 1))
        return Status::invalidInput(
            fmt::format("the tensor name \"{}\" does not use the index {{{}}}, so that all "
                        "its values would name one tensor",
                        source.name, bindings_[i].index));
    return name;
  }

  /// The rows of one part of a Concat, as LeafRows knows them.
  std::optional<int64_t> rowsOf(const Source &source, int depth) {
    if (depth > kMaxSourceDepth)
      return std::nullopt;
    if (source.kind == Source::Kind::Leaf) {
      Result<std::string> name = nameOf(source);
      return name.ok() && leafRows_ ? leafRows_(*name) : std::nullopt;
    }
    if (source.kind == Source::Kind::Stack)
      return source.begin >= 0 && source.end > source.begin
                 ? std::optional(source.end - source.begin)
                 : std::nullopt;
    int64_t sum = 0;
    for (const Source &child : source.children) {
      std::optional<int64_t> rows = rowsOf(child, depth + 1);
      if (!rows || *rows < 0 || *rows > kMaxSourceElements)
        return std::nullopt;
      sum += *rows;
      if (sum > kMaxSourceElements)
        return std::nullopt;
    }
    return sum;
  }

  Result<std::vector<int64_t>> rowsOfParts(const Source &source,
                                           const std::vector<int64_t> &shape) {
    size_t count = source.children.size();
    if (!source.sizes.empty() && source.sizes.size() != count)
      return Status::invalidInput(
          fmt::format("the source joins {} parts but gives {} sizes", count, source.sizes.size()));
    std::vector<int64_t> rows = source.sizes;
    for (size_t i = 0; rows.size() == i && i < count; ++i)
      if (std::optional<int64_t> known = rowsOf(source.children[i], depth_))
        rows.push_back(*known);
    if (rows.size() < count) { // not all are known: equal parts
      if (shape[0] % static_cast<int64_t>(count) != 0)
        return Status::invalidInput(
            fmt::format("the source joins {} parts of unknown size to {} rows, which are "
                        "no equal parts",
                        count, shape[0]));
      rows.assign(count, shape[0] / static_cast<int64_t>(count));
    }
    int64_t left = shape[0];
    for (int64_t part : rows) {
      if (part < 0 || part > left)
        return wrongSum(rows, shape[0]);
      left -= part;
    }
    return left == 0 ? Result(std::move(rows)) : wrongSum(rows, shape[0]);
  }

  static Status wrongSum(const std::vector<int64_t> &rows, int64_t expected) {
    return Status::invalidInput(
        fmt::format("the source joins parts of {} rows, expected a sum of {}",
                    fmt::join(rows, " + "), expected));
  }

  Status concat(const Source &source, std::vector<int64_t> shape) {
    if (source.children.empty())
      return Status::invalidInput("the source joins no parts");
    if (shape.empty())
      return Status::invalidInput("the source joins parts along dimension 0 of a scalar");
    SY_ASSIGN_OR_RETURN(std::vector<int64_t> rows, rowsOfParts(source, shape));
    for (size_t i = 0; i < rows.size(); ++i) {
      shape[0] = rows[i];
      SY_RETURN_IF_ERROR(visit(source.children[i], shape));
    }
    return {};
  }

  Status stack(const Source &source, std::vector<int64_t> shape) {
    if (source.children.size() != 1)
      return Status::invalidInput(
          fmt::format("the source stacks {} parts, expected 1", source.children.size()));
    if (source.index.empty() || source.index.find_first_of("{}") != std::string::npos)
      return Status::invalidInput(
          fmt::format("the source stacks over an index called \"{}\"", source.index));
    if (std::ranges::find(bindings_, source.index, &Binding::index) != bindings_.end())
      return Status::invalidInput(
          fmt::format("the source stacks twice over the index {{{}}}", source.index));
    if (source.begin < 0 || source.end <= source.begin)
      return Status::invalidInput(
          fmt::format("the source stacks {} from {} to {}, which is no range", source.index,
                      source.begin, source.end));
    if (shape.empty() || shape[0] != source.end - source.begin)
      return Status::invalidInput(
          fmt::format("the source stacks {} parts, which is not dimension 0 of {}",
                      source.end - source.begin, shapeText(shape)));
    std::vector<int64_t> part(shape.begin() + 1, shape.end());
    bindings_.push_back({source.index, source.begin});
    for (int64_t value = source.begin; value < source.end; ++value) {
      bindings_.back().value = value;
      SY_RETURN_IF_ERROR(visit(source.children[0], part));
    }
    bindings_.pop_back();
    return {};
  }

  const LeafRows &leafRows_;
  std::vector<Binding> bindings_;
  std::unordered_set<std::string> seen_;
  int64_t place_ = 0;
  int depth_ = 0;
};

} // namespace

Result<std::vector<SourceSlice>> resolve(const Source &source, std::span<const int64_t> stateShape,
                                         const LeafRows &leafRows) {
  int64_t count = 1;
  for (int64_t extent : stateShape) {
    if (extent < 1 || extent > kMaxSourceElements / count)
      return Status::invalidInput(fmt::format("the shape {} is empty or has more than {} elements",
                                              shapeText(stateShape), kMaxSourceElements));
    count *= extent;
  }
  Resolver resolver(leafRows);
  SY_RETURN_IF_ERROR(resolver.visit(source, {stateShape.begin(), stateShape.end()}));
  return std::move(resolver.slices);
}

} // namespace switchyard
