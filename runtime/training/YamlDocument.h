// How many documents a YAML text has: YAML::LoadAll never ends on some broken ones (",p"), which it
// takes for empty documents without end.
#pragma once

#include <string>

namespace switchyard {

/// Whether `text` is one document, or none, so that YAML::Load reads all of it. Throws what that
/// would: YAML::Exception.
bool isOneYamlDocument(const std::string &text);

} // namespace switchyard
