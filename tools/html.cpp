#include "tools/html.hpp"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

namespace signsplit::tools {
namespace {

/// Bytes of the well-formed UTF-8 sequence at the start of `text` (Unicode, table 3-7), or 0.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool second = follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf);
    return second && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool second = follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf);
    return second && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string plain_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto c = static_cast<unsigned char>(text.front());
    if (length == 0) {
      out += "\xef\xbf\xbd";
    } else if (c == '\n' || c == '\t') {
      out += ' ';
    } else if (c >= 0x20 && c != 0x7f) {
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : plain_text(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

Html element(std::string_view name, const Html& content, std::string_view style) {
  if (style.empty()) return {fmt::format("<{0}>{1}</{0}>", name, content.code)};
  return {fmt::format("<{0} class=\"{2}\">{1}</{0}>", name, content.code, style)};
}

Html collapsible(const Html& summary, std::string_view remark, const Html& content, bool open) {
  return markup(open ? "<details open><summary>" : "<details><summary>") + summary + element("span", text(remark), "sub") +
         markup("</summary>") + content + markup("</details>\n");
}

Html schedule_name(std::string_view name) {
  Html parts;
  while (!name.empty()) {
    const std::size_t length = std::min(name.find_first_of("/+", 1), name.size());
    const bool slash = length < name.size() && name[length] == '/';
    if (!parts.code.empty()) parts += markup("<wbr>");
    parts += text(name.substr(0, length + (slash ? 1 : 0)));
    name.remove_prefix(length + (slash ? 1 : 0));
  }
  return element("span", parts, "label");
}

void Table::row(const std::vector<Html>& cells, std::string_view style) {
  rows_ += style.empty() ? std::string("<tr>") : fmt::format("<tr class=\"{}\">", style);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const bool number = i < columns_.size() && columns_[i].number;
    if (i == 0) {
      rows_ += fmt::format("<th scope=\"row\">{}</th>", cells[i].code);
    } else {
      rows_ += fmt::format("<td{}>{}</td>", number ? " class=\"n\"" : "", cells[i].code);
    }
  }
  rows_ += "</tr>\n";
}

Html Table::html() const {
  std::string head;
  for (const Column& column : columns_) {
    head += fmt::format("<th scope=\"col\"{}>{}</th>", column.number ? " class=\"n\"" : "", escape_html(column.title));
  }
  const std::string caption = escape_html(caption_);
  // A box that scrolls must be reachable by keyboard, and then needs a name.
  return {fmt::format("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table>{1}<thead><tr>{2}</tr></thead>\n"
                      "<tbody>\n{3}</tbody></table></div>\n",
                      caption, caption.empty() ? "" : "<caption>" + caption + "</caption>", head, rows_)};
}

std::string fill_template(std::string_view page, const std::vector<std::pair<std::string_view, Html>>& values) {
  std::string out;
  for (;;) {
    const std::size_t begin = page.find("{{");
    const std::size_t end = begin == std::string_view::npos ? begin : page.find("}}", begin);
    if (end == std::string_view::npos) break;
    out += page.substr(0, begin);
    const std::string_view name = page.substr(begin + 2, end - begin - 2);
    const auto value = std::find_if(values.begin(), values.end(), [&](const auto& entry) { return entry.first == name; });
    if (value != values.end()) out += value->second.code;
    page.remove_prefix(end + 2);
  }
  return out += page;
}

}  // namespace signsplit::tools
