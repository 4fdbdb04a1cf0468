// HTML as a type of its own, so that text cannot get into a page without being escaped.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace signsplit::tools {

/// Markup. Made from text by text(), or written out in the source by markup().
struct Html {
  std::string code;
  Html& operator+=(const Html& more) {
    code += more.code;
    return *this;
  }
  friend Html operator+(Html a, const Html& b) { return a += b; }
};

/// The text without what no page or plot can show: bytes that are not UTF-8 become U+FFFD, line breaks and tabs spaces;
/// other control characters are dropped.
[[nodiscard]] std::string plain_text(std::string_view text);
/// plain_text for HTML content and attribute values: & < > " ' escaped.
[[nodiscard]] std::string escape_html(std::string_view text);
[[nodiscard]] inline Html text(std::string_view plain) { return {escape_html(plain)}; }
/// Trusted: what stands in our source, never what came from outside.
[[nodiscard]] inline Html markup(std::string code) { return {std::move(code)}; }
/// <name class="style">content</name>; no class when `style` is empty. The name and the style are trusted.
[[nodiscard]] Html element(std::string_view name, const Html& content, std::string_view style = {});

/// Content that a click on `summary` shows and hides; the remark stands below it, smaller.
[[nodiscard]] Html collapsible(const Html& summary, std::string_view remark, const Html& content, bool open);

/// The name of a schedule, which may be broken after '/' and '+'.
[[nodiscard]] Html schedule_name(std::string_view name);

/// A table that scrolls inside its own box when the screen is too narrow. The first column stays in sight.
class Table {
 public:
  struct Column {
    std::string title;
    bool number = true;  ///< right-aligned
  };
  Table(std::string caption, std::vector<Column> columns) : caption_(std::move(caption)), columns_(std::move(columns)) {}

  /// One cell per column. `style` is a class of the page's style sheet.
  void row(const std::vector<Html>& cells, std::string_view style = {});
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  [[nodiscard]] Html html() const;

 private:
  std::string caption_;
  std::vector<Column> columns_;
  std::string rows_;
};

/// `page` with every {{name}} replaced by the value of that name, once: values are not looked into. An unknown name
/// becomes nothing.
[[nodiscard]] std::string fill_template(std::string_view page, const std::vector<std::pair<std::string_view, Html>>& values);

}  // namespace signsplit::tools
