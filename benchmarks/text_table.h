// Aligned columns of text.
#ifndef FERRY_BENCHMARKS_TEXT_TABLE_H_
#define FERRY_BENCHMARKS_TEXT_TABLE_H_

#include <string>
#include <vector>

namespace ferry::bench {

// A TextTable is lines of cells under headings.
//
// Thread-compatible.
class TextTable {
 public:
  struct Column {
    std::string heading;
    // Words stand to the left, numbers to the right.
    bool is_word = false;
  };

  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // REQUIRES: as many cells as columns.
  void Add(std::vector<std::string> cells) { lines_.push_back(std::move(cells)); }

  // The headings and the lines, each ended by a newline.
  std::string Text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> lines_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_TEXT_TABLE_H_
