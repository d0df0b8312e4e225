#include "ferry/benchmarks/text_table.h"

#include <algorithm>
#include <cstddef>

namespace ferry::bench {

std::string TextTable::Text() const {
  std::vector<std::vector<std::string>> lines(1);
  for (const Column& column : columns_) lines.front().push_back(column.heading);
  lines.insert(lines.end(), lines_.begin(), lines_.end());
  std::vector<size_t> widths(columns_.size());
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const auto& line : lines) {
    std::string out;
    for (size_t i = 0; i < line.size(); ++i) {
      const std::string space(widths[i] - line[i].size(), ' ');
      out += (i == 0 ? "" : "  ") + (columns_[i].is_word ? line[i] + space : space + line[i]);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    text += out + "\n";
  }
  return text;
}

}  // namespace ferry::bench
