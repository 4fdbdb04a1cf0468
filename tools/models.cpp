// signsplit models: the published models whose shapes are known.
#include "signsplit/models.hpp"

#include "tools/command.hpp"
#include "tools/json_output.hpp"
#include "tools/quantity_text.hpp"

namespace signsplit::tools {
namespace {

Result<ExitCode> list_models(const Context& context) {
  context.print("{:<24} {:>6} {:>6}  {:<12} {:>9}  {:>10}  {}\n", "name", "D", "F", "activation", "zeros", "bf16 layer",
                "source");
  Json list = Json::array();
  for (const Model& model : models()) {
    const Problem problem{.d_model = model.d_model, .d_ff = model.d_ff, .activation = model.activation, .gated = model.gated};
    const std::string activation = to_string(model.activation, model.gated);
    const auto bytes = static_cast<double>(weight_bytes(problem));
    context.print("{:<24} {:>6} {:>6}  {:<12} {:>9}  {:>10}  {}\n", model.name, model.d_model, model.d_ff, activation,
                  model.reported_zeros > 0 ? percent_text(model.reported_zeros) : "-", bytes_text(bytes), model.source);
    list.push_back({{"name", model.name},
                    {"d_model", model.d_model},
                    {"d_ff", model.d_ff},
                    {"activation", activation},
                    {"gated", model.gated},
                    {"reported_zeros", model.reported_zeros > 0 ? Json(model.reported_zeros) : Json(nullptr)},
                    {"source", model.source}});
  }
  if (const Status status = write_json(context, {{"models", std::move(list)}}); !status) return status;
  return ExitCode::done;
}

}  // namespace

void add_models(CLI::App& app, Context& context) {
  CLI::App& command = add_command(
      app, "models", "List the published models whose FFN shapes --model knows",
      "D = d_model, F = d_ff; zeros: fraction of inactive hidden units that others report.\n\n"
      "Examples:\n"
      "  signsplit models\n"
      "  signsplit models --json models.json");
  add_json_option(command, context);
  on_run(command, context, [&context] { return list_models(context); });
}

}  // namespace signsplit::tools
