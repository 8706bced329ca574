#include "runtime/data/Alpaca.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"

#include <algorithm>

namespace switchyard {

namespace {

constexpr JsonLimits kFileLimits{uint64_t{2} << 30, 32, uint64_t{1} << 27};

struct Fields {
  std::string_view instruction;
  std::string_view input;
  std::string_view output;
};

/// Reads one field, or says why the record can't be used.
std::string readField(const Json &record, const char *name, bool optional, std::string_view &text) {
  const Json *value = record.find(name);
  if (optional && (!value || value->isNull()))
    return "";
  if (!value)
    return std::string("\"") + name + "\" is missing";
  if (!value->isString())
    return std::string("\"") + name + "\" is " + value->describe() + ", expected a string";
  text = value->string();
  return "";
}

std::string readFields(const Json &record, Fields &fields) {
  if (!record.isObject())
    return "it is " + record.describe() + ", expected an object";
  if (std::string why = readField(record, "instruction", false, fields.instruction); !why.empty())
    return why;
  if (std::string why = readField(record, "input", true, fields.input); !why.empty())
    return why;
  if (std::string why = readField(record, "output", false, fields.output); !why.empty())
    return why;
  return fields.output.empty() ? "its output is empty" : "";
}

/// Tokenises records one after the other into a Dataset; its buffers live as long as it does.
class AlpacaReader {
public:
  AlpacaReader(const std::string &path, const Tokenizer &tokenizer, const AlpacaOptions &options)
      : tokenizer_(tokenizer), options_(options), dataset_(path) {}

  Status add(const Json &record) {
    int64_t index = count_++;
    Fields fields;
    if (std::string why = readFields(record, fields); !why.empty()) {
      dataset_.skip(index, std::move(why));
      return {};
    }
    std::string text = alpacaPrompt(fields.instruction, fields.input);
    const auto &[before, behind] = tokenizer_.frame();
    ids_ = before;
    SY_RETURN_IF_ERROR(tokenizer_.encode(text, ids_));
    int64_t promptTokens = static_cast<int64_t>(ids_.size());
    if (promptTokens >= options_.maxSeqLength) {
      dataset_.skip(index, "its prompt alone has " + std::to_string(promptTokens) +
                               " tokens, which leaves none to predict within max_seq_length " +
                               std::to_string(options_.maxSeqLength));
      return {};
    }
    text += ' ';
    text += fields.output;
    ids_ = before;
    SY_RETURN_IF_ERROR(tokenizer_.encode(text, ids_));
    ids_.insert(ids_.end(), behind.begin(), behind.end());
    ids_.resize(std::min<size_t>(ids_.size(), options_.maxSeqLength));
    if (promptTokens >= static_cast<int64_t>(ids_.size())) {
      dataset_.skip(index, "nothing of its output is left to predict");
      return {};
    }
    SY_RETURN_IF_ERROR(checkIds(index));
    dataset_.append(ids_, promptTokens, index);
    return {};
  }

  Result<Dataset> finish() {
    if (dataset_.size() > 0)
      return std::move(dataset_);
    if (count_ == 0)
      return Status::invalidInput(dataset_.source() + ": holds no record, expected a JSON array of "
                                                      "Alpaca records or one per line");
    return Status::invalidInput(dataset_.describeSkipped() +
                                "; expected at least one usable record");
  }

private:
  Status checkIds(int64_t index) const {
    for (int32_t id : ids_)
      if (id < 0 || id >= options_.vocabSize)
        return Status::invalidInput(dataset_.source() + ": record " + std::to_string(index) +
                                    " has token id " + std::to_string(id) +
                                    ", expected below the model's vocab_size, " +
                                    std::to_string(options_.vocabSize) + "; is " +
                                    tokenizer_.path() + " the model's own tokenizer?");
    return {};
  }

  const Tokenizer &tokenizer_;
  AlpacaOptions options_;
  Dataset dataset_;
  int64_t count_ = 0;
  std::vector<int32_t> ids_;
};

/// What is wrong with `text`, line number `line` of the file, in the file's own lines.
Status badLine(std::string_view text, int64_t line, const std::string &path) {
  // JSON allows the newlines in front, and the parser counts them.
  std::string padded(line - 1, '\n');
  padded += text;
  Result<Json> parsed = parseJson(padded, path, kFileLimits);
  std::string why = parsed.ok() ? path + ": is not readable" : parsed.status().message();
  return Status::invalidInput(why + " (line " + std::to_string(line) +
                              "; expected one Alpaca record a line, or a JSON array of them)");
}

Status addLines(std::string_view text, const std::string &path, AlpacaReader &reader) {
  for (int64_t line = 1; !text.empty(); ++line) {
    std::string_view one = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    if (one.find_first_not_of(" \t\r") == std::string_view::npos)
      continue;
    Result<Json> record = parseJson(one, path, kFileLimits);
    if (!record.ok())
      return badLine(one, line, path);
    SY_RETURN_IF_ERROR(reader.add(*record));
  }
  return {};
}

} // namespace

std::string alpacaPrompt(std::string_view instruction, std::string_view input) {
  std::string prompt =
      input.empty()
          ? "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\n"
          : "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\n";
  prompt += instruction;
  if (!input.empty()) {
    prompt += "\n\n### Input:\n";
    prompt += input;
  }
  prompt += "\n\n### Response:";
  return prompt;
}

Result<Dataset> loadAlpaca(const std::string &path, const Tokenizer &tokenizer,
                           const AlpacaOptions &options) {
  if (options.maxSeqLength < 1 || options.vocabSize < 1)
    return Status::usage("max_seq_length is " + std::to_string(options.maxSeqLength) +
                         " and vocab_size " + std::to_string(options.vocabSize) +
                         ", expected both above 0");
  SY_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  std::string_view text = file.text();
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark))
    text.remove_prefix(kByteOrderMark.size());
  size_t first = text.find_first_not_of(" \t\r\n");
  AlpacaReader reader(path, tokenizer, options);
  if (first != std::string_view::npos && text[first] == '[') {
    SY_ASSIGN_OR_RETURN(Json records, parseJson(text, path, kFileLimits));
    for (const Json &record : records.items())
      SY_RETURN_IF_ERROR(reader.add(record));
  } else {
    SY_RETURN_IF_ERROR(addLines(text, path, reader));
  }
  return reader.finish();
}

} // namespace switchyard
