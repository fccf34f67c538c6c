// Adapters as Python sees them; every size is checked against the model here.
#include <nanobind/stl/optional.h>

#include <optional>

#include "bindings.h"

namespace {

using Parts = std::vector<std::optional<std::pair<int, Floats>>>;
using Adapted = std::optional<std::pair<Floats, Parts>>;

// One product's adapter as it was given, checked against the base's `inputs` and rows of each part.
LowRankSource low_rank_source(const Adapted& given, int inputs, const std::vector<int>& part_rows) {
    LowRankSource source;
    if (!given) return source;
    const auto& [a, parts] = *given;
    source.rank = int(a.shape(0)), source.inputs = inputs, source.a = a.data();
    require(source.rank > 0 && int(a.shape(1)) == inputs, "an adapter's A does not fit");
    require(parts.size() == part_rows.size(), "an adapter's parts are not the product's");
    for (size_t i = 0; i < parts.size(); i++) {
        LowRankSource::Part part;
        if (parts[i]) {
            const auto& [first, b] = *parts[i];
            part = {first, int(b.shape(1)), int(b.shape(0)), b.data()};
            require(part.num_rows == part_rows[i], "an adapter's B does not fit");
            require(part.rank > 0 && first >= 0 && first <= source.rank - part.rank, "an adapter's rank does not fit");
        }
        source.parts.push_back(part);
    }
    return source;
}

// An adapter for a model, from its low-rank pairs: for each layer, for each `Projection`, then for `inner` and
// `down` of each expert, where experts have any.
std::shared_ptr<Adapter> make_adapter(const Model& model, const std::vector<std::vector<Adapted>>& layers,
                                      const std::string& format_name) {
    const ModelSpec& spec = model.spec();
    const Format format = format_named(format_name);
    require(format == Format::float32 || format == Format::bfloat16, "adapters are float32 or bfloat16");
    require(layers.size() == spec.layers.size(), "an adapter's layers are not the model's");
    const int head = padded(spec.head_dim, kTileRows), hidden = padded(spec.hidden_size, kTileRows);
    std::vector<LayerSource> sources;
    for (size_t i = 0; i < layers.size(); i++) {
        const std::vector<Adapted>& given = layers[i];
        const Layer& layer = spec.layers[i];
        const auto& experts = layer.experts.experts;
        require(given.size() == kProjections || given.size() == kProjections + 2 * experts.size(),
                "a layer's products are not the model's");
        LayerSource& source = sources.emplace_back();
        source.push_back(low_rank_source(given[0], spec.hidden_size,
                                         {spec.num_heads * head, spec.num_kv_heads * head, spec.num_kv_heads * head}));
        source.push_back(low_rank_source(given[1], spec.num_heads * spec.head_dim, {hidden}));
        const Mlp& mlp = layer.experts.is_there() ? layer.experts.shared : layer.mlp;
        require(mlp.inner || (!given[2] && !given[3]), "an adapter for an MLP that is not there");
        const int inner = mlp.down ? mlp.down->width() : 0;
        source.push_back(low_rank_source(given[2], spec.hidden_size, std::vector<int>(spec.gated ? 2 : 1, inner)));
        source.push_back(low_rank_source(given[3], mlp.down ? mlp.down->num_inputs : 0, {hidden}));
        for (size_t at = kProjections, e = 0; at < given.size(); at += 2, e++) {
            const Matrix& down = *experts[e].down;
            source.push_back(
                low_rank_source(given[at], spec.hidden_size, std::vector<int>(spec.gated ? 2 : 1, down.width())));
            source.push_back(low_rank_source(given[at + 1], down.num_inputs, {hidden}));
        }
    }
    nb::gil_scoped_release release;
    return std::make_shared<Adapter>(sources, format, model.id());
}

}  // namespace

void bind_adapters(nb::module_& m) {
    nb::class_<Adapter>(m, "Adapter").def_prop_ro("num_bytes", &Adapter::num_bytes);
    m.def("make_adapter", &make_adapter, nb::arg("model"), nb::arg("layers"), nb::arg("format"));
}
