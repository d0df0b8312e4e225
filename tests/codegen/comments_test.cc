#include "ferry/codegen/comments.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "ferry/codegen/format.h"

namespace ferry::codegen {
namespace {

std::string Repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(CommentLinesTest, SaysNothingOfNothing) {
  EXPECT_EQ(CommentLines("", 2), "");
  EXPECT_EQ(CommentLines("\n \n", 2), "");
}

TEST(CommentLinesTest, KeepsLinesAndTheirIndentation) {
  EXPECT_EQ(CommentLines("One.\n\n  - two", 2), "  // One.\n  //\n  //   - two\n");
}

TEST(CommentLinesTest, KeepsSpacesBetweenWords) { EXPECT_EQ(CommentLines("a   b", 0), "// a   b\n"); }

TEST(CommentLinesTest, BreaksLongLinesBetweenWordsWithTheirIndentation) {
  std::istringstream lines(CommentLines("  " + Repeat("words ", 40), 2));
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) {
    EXPECT_LE(line.size(), kColumnLimit);
    EXPECT_EQ(line.substr(0, 12), "  //   words");
    ++count;
  }
  EXPECT_EQ(count, 3);
}

TEST(CommentLinesTest, KeepsAWordThatIsLongerThanALine) {
  const std::string word = Repeat("x", 200);
  EXPECT_EQ(CommentLines("a " + word + " b", 0), "// a\n// " + word + "\n// b\n");
}

TEST(CommentLinesTest, CountsWideCharactersAsTwoColumns) {
  const std::string word = Repeat("\u5927", 30);
  EXPECT_EQ(CommentLines(word + " " + word, 0), "// " + word + "\n// " + word + "\n");
}

TEST(CommentLinesTest, KeepsABackslashFromSwallowingTheNextLine) {
  EXPECT_EQ(CommentLines("a \\\nb", 0), "// a \\ .\n// b\n");
  EXPECT_EQ(CommentLines("a \\  \nb", 0), "// a \\ .\n// b\n");
  EXPECT_EQ(CommentLines("a ?\?/\nb", 0), "// a ?\?/ .\n// b\n");
}

TEST(CommentLinesTest, LeavesRoomForWhatDefusesABackslash) {
  const std::string first = Repeat("x", 100);
  EXPECT_EQ(CommentLines(first + " yyyyy\\", 0), "// " + first + "\n// yyyyy\\ .\n");
}

TEST(CommentLinesTest, ReplacesControlCharacters) {
  EXPECT_EQ(CommentLines("a\tb\r\nc\fd", 0), "// a b\n// c d\n");
}

TEST(CommentLinesTest, DropsMarksThatChangeTheDirectionOfText) {
  EXPECT_EQ(CommentLines("a\u202eb\u2066c\u2029d", 0), "// abc\u2029d\n");
}

google::protobuf::SourceLocation Location(const std::string& leading, const std::string& trailing) {
  google::protobuf::SourceLocation location{};
  location.leading_comments = leading;
  location.trailing_comments = trailing;
  return location;
}

TEST(JoinCommentsTest, TakesOneSpaceOffEachLine) {
  EXPECT_EQ(JoinComments(Location(" One.\n   Two.\n", "")), "One.\n  Two.");
}

TEST(JoinCommentsTest, PutsWhatStandsBesideBehindWhatStandsBefore) {
  EXPECT_EQ(JoinComments(Location(" One.\n", " Two.\n")), "One.\n\nTwo.");
  EXPECT_EQ(JoinComments(Location("", " Two.\n")), "Two.");
}

TEST(JoinCommentsTest, TakesTheThirdSlashAndRulersOff) {
  EXPECT_EQ(JoinComments(Location("//////////\n/ One.\n//////////\n", "")), "One.");
}

}  // namespace
}  // namespace ferry::codegen
