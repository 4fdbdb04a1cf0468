// gnuplot's SVG document made fit for an HTML page.
#include <array>
#include <cctype>
#include <charconv>

#include <fmt/format.h>

#include "tools/html.hpp"
#include "tools/report_plots.hpp"

namespace signsplit::tools {
namespace {

struct NamedColour {
  std::string_view hex;  ///< as the scripts have it, without '#'
  std::string_view css;
};
// Colours that the scripts use as names: whatever gnuplot draws in 010103 is drawn in the page's --sign-split.
constexpr std::array<NamedColour, 9> kColours{{{"010101", "var(--unfused)"},
                                               {"010102", "var(--row-fused)"},
                                               {"010103", "var(--sign-split)"},
                                               {"010104", "var(--vendor)"},
                                               {"010105", "var(--rule)"},
                                               {"010106", "var(--muted)"},
                                               {"010107", "var(--text)"},
                                               {"010108", "var(--error-bar)"},
                                               {"010109", "var(--certified)"}}};

/// "rgb(  1,   1,   3)" from `at` on: its CSS, and where it ends; everything unknown is the text's colour.
std::string_view css_of(std::string_view numbers) {
  std::string hex;
  const char* at = numbers.data();
  const char* const end = at + numbers.size();
  while (at < end) {
    while (at < end && std::isdigit(static_cast<unsigned char>(*at)) == 0) ++at;
    int part = 0;
    const auto [next, error] = std::from_chars(at, end, part);
    if (error != std::errc{}) break;
    hex += fmt::format("{:02x}", part);
    at = next;
  }
  for (const NamedColour& colour : kColours) {
    if (colour.hex == hex) return colour.css;
  }
  return "currentColor";
}

std::string with_css_colours(std::string_view svg) {
  std::string out;
  out.reserve(svg.size());
  for (;;) {
    const std::size_t begin = svg.find("rgb(");
    if (begin == std::string_view::npos) break;
    const std::size_t end = svg.find(')', begin);
    if (end == std::string_view::npos) break;
    out += svg.substr(0, begin);
    out += css_of(svg.substr(begin + 4, end - begin - 4));
    svg.remove_prefix(end + 1);
  }
  return out += svg;
}

std::string replaced(std::string_view text, std::string_view what, std::string_view by) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what)) {
    out += text.substr(0, at);
    out += by;
    text.remove_prefix(at + what.size());
  }
  return out += text;
}

/// `text` without what stands from every `begin` to the next `end`, both included.
std::string without(std::string_view text, std::string_view begin, std::string_view end) {
  std::string out;
  for (std::size_t at = text.find(begin); at != std::string_view::npos; at = text.find(begin)) {
    const std::size_t stop = text.find(end, at + begin.size());
    if (stop == std::string_view::npos) break;
    out += text.substr(0, at);
    text.remove_prefix(stop + end.size());
  }
  return out += text;
}

std::string attribute(std::string_view tag, std::string_view name) {
  const std::string begin = fmt::format("{}=\"", name);
  const std::size_t at = tag.find(begin);
  if (at == std::string_view::npos) return {};
  const std::size_t value = at + begin.size();
  return std::string(tag.substr(value, tag.find('"', value) - value));
}

/// Drawing elements only: no ids, fonts, named colours or empty groups of gnuplot's.
std::string clean_body(std::string_view body, std::string_view id_prefix) {
  std::string svg = without(body, "<title>", "</title>");
  svg = without(svg, "<desc>", "</desc>");
  svg = without(svg, "<filter", "</filter>");
  svg = without(svg, " id=\"gnuplot_", "\"");
  svg = without(svg, " font-family=\"", "\"");
  for (const std::string_view colour : {"black", "white", "gray", "red"}) {
    svg = replaced(svg, fmt::format(" color=\"{}\"", colour), "");
  }
  svg = replaced(svg, "=\"black\"", "=\"currentColor\"");
  svg = replaced(svg, "xlink:href='#", fmt::format("href='#{}", id_prefix));
  svg = replaced(svg, " id='", fmt::format(" id='{}", id_prefix));
  svg = with_css_colours(svg);
  return replaced(svg, "\t", "");
}

}  // namespace

Result<std::string> inline_svg(std::string_view document, std::string_view id_prefix, std::string_view title) {
  const std::size_t tag = document.find("<svg");
  const std::size_t body = tag == std::string_view::npos ? tag : document.find('>', tag);
  const std::size_t end = document.rfind("</svg>");
  if (body == std::string_view::npos || end == std::string_view::npos || end < body) {
    return corrupt_file("gnuplot's output is no whole SVG document");
  }
  const std::string box = attribute(document.substr(tag, body - tag), "viewBox");
  if (box.empty()) return corrupt_file("gnuplot's SVG has no viewBox");
  return fmt::format("<svg class=\"plot\" role=\"img\" viewBox=\"{}\" aria-label=\"{}\">{}</svg>", escape_html(box),
                     escape_html(title), clean_body(document.substr(body + 1, end - body - 1), id_prefix));
}

}  // namespace signsplit::tools
