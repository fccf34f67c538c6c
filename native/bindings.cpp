// `cairn._native`: the module that Python sees. Arrays come in as numpy's, contiguous and checked here;
// whoever calls `forward` has checked what is in them (cairn.engine.native_runner).
#include "bindings.h"

#include <algorithm>

namespace {

const char* name_of(Format format) {
    switch (format) {
        case Format::float32: return "float32";
        case Format::bfloat16: return "bfloat16";
        case Format::int8: return "int8";
        case Format::int4: return "int4";
    }
    return "";
}

CacheType cache_named(const std::string& name) {
    return named<CacheType>(name, {{"float32", CacheType::float32}, {"bfloat16", CacheType::bfloat16},
                                   {"int8", CacheType::int8}});
}

Weights pack_array(const Floats& values, const std::string& format) {
    const Format packed = format_named(format);
    nb::gil_scoped_release release;
    return std::make_shared<Matrix>(pack(values.data(), int64_t(values.shape(0)), int64_t(values.shape(1)), packed));
}

void unpack_array(const Matrix& matrix, const FloatsOut& out) {
    if (int(out.shape(0)) != matrix.num_rows || int(out.shape(1)) != matrix.num_inputs) {
        throw std::invalid_argument("the array does not have the matrix's shape");
    }
    for (int row = 0; row < matrix.num_rows; row++) unpack_row(matrix, row, out.data() + size_t(row) * out.shape(1));
}

// x [T, inputs] times a packed matrix, as a layer does it; `out` [T, rows padded to 16].
void multiply(const Matrix& matrix, const Floats& x, const FloatsOut& out, const std::string& kernels_name) {
    const Kernels* kernels = find_kernels(kernels_name);
    const bool fits = int(x.shape(1)) == matrix.num_inputs && out.shape(0) == x.shape(0) &&
                      int(out.shape(1)) == matrix.num_tiles() * kTileRows;
    if (!kernels || !fits) throw std::invalid_argument("the arrays or the kernels do not fit the matrix");
    nb::gil_scoped_release release;
    Activations rows;
    const int num_rows = int(x.shape(0));
    rows.shape(num_rows, matrix.num_inputs, matrix.format);
    for (int row = 0; row < num_rows; row++) {
        kernels->take_row(x.data() + size_t(row) * x.shape(1), matrix.num_inputs, rows, row);
    }
    kernels->matmul({&matrix, &rows, nullptr, num_rows, 0, matrix.num_tiles(), nullptr, out.data(), out.shape(1)});
}

constexpr int kMostHeads = 1 << 16, kMostHeadDim = 1 << 12;  // so that no width computed from them overflows
constexpr int kMostBlockSize = 1 << 12;

void check_mlp(const ModelSpec& spec, const Mlp& mlp, Format format) {
    require(mlp.down && mlp.inner, "an MLP lacks a matrix");
    require(mlp.down->format == format && mlp.inner->format == format, "one format for all layers");
    check_matrix(mlp.down, spec.hidden_size, mlp.down->num_inputs);
    check_matrix(mlp.inner, (spec.gated ? 2 : 1) * mlp.down->width(), spec.hidden_size);
    require(mlp.inner_bias.empty() || int(mlp.inner_bias.size()) == mlp.inner->num_rows, "a bias does not fit");
    require(mlp.down_bias.empty() || int(mlp.down_bias.size()) == spec.hidden_size, "a bias does not fit");
}

// Nothing is read out of bounds later if this passes.
void check_spec(const ModelSpec& spec) {
    require(spec.vocab_size > 0 && spec.hidden_size > 0 && spec.num_kv_heads > 0 && spec.head_dim > 0, "empty model");
    require(spec.num_heads <= kMostHeads && spec.num_kv_heads <= kMostHeads && spec.head_dim <= kMostHeadDim,
            "more or larger heads than 65,536 of 4,096");
    require(spec.num_heads > 0 && spec.num_heads % spec.num_kv_heads == 0, "heads do not divide");
    require(!spec.layers.empty(), "no layers");
    check_matrix(spec.embedding, spec.vocab_size, spec.hidden_size);
    if (spec.head) check_matrix(spec.head, spec.vocab_size, spec.hidden_size);
    const Weights& positions = spec.position_embedding;
    if (positions) check_matrix(positions, positions->num_rows, spec.hidden_size);
    check_norm(spec.norm, spec.hidden_size);
    require(spec.norm.is_there(), "no final norm");
    for (const Rope& rope : spec.ropes) {
        require(rope.rotary_dim >= 0 && rope.rotary_dim % 2 == 0 && rope.rotary_dim <= spec.head_dim, "rotary dimension");
        require(int(rope.frequencies.size()) == rope.rotary_dim / 2, "frequencies");
    }
    const int head_width = padded(spec.head_dim, kTileRows);
    const Format format = spec.layers[0].qkv ? spec.layers[0].qkv->format : Format::float32;
    for (const Layer& layer : spec.layers) {
        const int qkv_rows = (spec.num_heads + 2 * spec.num_kv_heads) * head_width;
        check_matrix(layer.qkv, qkv_rows, spec.hidden_size);
        check_matrix(layer.output, spec.hidden_size, spec.num_heads * spec.head_dim);
        require(layer.qkv->format == format && layer.output->format == format, "one format for all layers");
        require(layer.qkv_bias.empty() || int(layer.qkv_bias.size()) == qkv_rows, "a bias does not fit");
        require(layer.output_bias.empty() || int(layer.output_bias.size()) == spec.hidden_size, "a bias does not fit");
        for (const Norm* norm : {&layer.attention_norm, &layer.attention_post_norm, &layer.mlp_norm,
                                 &layer.mlp_post_norm}) {
            check_norm(*norm, spec.hidden_size);
        }
        const bool whole = spec.norms_whole_projection;
        require(!whole || (layer.q_norm.is_there() && layer.k_norm.is_there()), "q_norm and k_norm are missing");
        check_norm(layer.q_norm, whole ? spec.num_heads * spec.head_dim : spec.head_dim);
        check_norm(layer.k_norm, whole ? spec.num_kv_heads * spec.head_dim : spec.head_dim);
        require(layer.rope < int(spec.ropes.size()), "no such rope");
        const Experts& experts = layer.experts;
        if (!experts.is_there()) {
            check_mlp(spec, layer.mlp, format);
            continue;
        }
        require(!experts.experts.empty() && experts.num_per_token > 0 &&
                    experts.num_per_token <= int(experts.experts.size()), "experts");
        check_matrix(experts.router, int(experts.experts.size()), spec.hidden_size);
        require(experts.router->format == Format::float32, "the router is float32");
        for (const Mlp& mlp : experts.experts) {
            check_mlp(spec, mlp, format);
            require(mlp.down->num_inputs == experts.experts[0].down->num_inputs, "experts of different sizes");
        }
        if (experts.shared.inner) {
            check_mlp(spec, experts.shared, format);
            check_matrix(experts.shared_gate, 1, spec.hidden_size);
            require(experts.shared_gate->format == Format::float32, "the shared gate is float32");
        }
    }
}

// Whether all logits are finite.
bool forward(Model& model, const Ids& token_ids, const Ids& positions, const Ids& slots, const Tables& tables,
             const nb::list& spans, const std::vector<int64_t>& logit_rows, const FloatsOut& logits,
             const IdsOut& likeliest, const std::vector<std::pair<std::shared_ptr<Adapter>, Ids>>& adapters) {
    const ModelSpec& spec = model.spec();
    const int64_t num_tokens = int64_t(token_ids.shape(0)), block_size = model.block_size();
    require(model.num_blocks() > 0, "allocate_cache comes first");
    require(positions.shape(0) == token_ids.shape(0) && slots.shape(0) == token_ids.shape(0), "lengths differ");
    require(logits.shape(0) == logit_rows.size() && int(logits.shape(1)) == spec.vocab_size, "logits' shape");
    require(likeliest.shape(0) == logit_rows.size(), "one likeliest token a row");
    const int64_t num_slots = model.num_blocks() * block_size;
    for (int64_t t = 0; t < num_tokens; t++) {
        require(token_ids(t) >= 0 && token_ids(t) < spec.vocab_size, "a token id is out of range");
        require(slots(t) >= 0 && slots(t) < num_slots, "a slot is out of range");
        require(positions(t) >= 0, "a position is negative");
        require(!spec.position_embedding || positions(t) < spec.position_embedding->num_rows, "a position is too high");
    }
    for (int64_t row : logit_rows) require(row >= 0 && row < num_tokens, "a logit row is out of range");
    const auto check_table = [&](const int64_t* blocks, int64_t width, int64_t last) {
        require(last / block_size < width, "a block table is too short");
        for (int64_t i = 0; i <= last / block_size; i++) {
            require(blocks[i] >= 0 && blocks[i] < model.num_blocks(), "a block is out of range");
        }
    };
    StepInput input{int(num_tokens), int(tables.shape(0)), token_ids.data(), positions.data(), slots.data(),
                    tables.data(), int64_t(tables.shape(1)), {}, logit_rows, logits.data(), likeliest.data(), {}};
    std::vector<Ids> held;  // a table that had to be converted lives nowhere else
    int64_t covered = input.num_decodes;
    for (int t = 0; t < input.num_decodes; t++) {
        check_table(tables.data() + t * input.table_width, input.table_width, positions(t));
    }
    for (nb::handle item : spans) {
        const auto span = nb::cast<nb::tuple>(item);
        const Ids& blocks = held.emplace_back(nb::cast<Ids>(span[3]));
        const StepInput::Span found{nb::cast<int64_t>(span[0]), nb::cast<int64_t>(span[1]),
                                    nb::cast<int64_t>(span[2]), blocks.data()};
        require(found.row == covered && found.start >= 0 && found.start < found.stop, "spans do not follow each other");
        covered += found.stop - found.start;
        check_table(blocks.data(), int64_t(blocks.shape(0)), found.stop - 1);
        input.spans.push_back(found);
    }
    require(covered == num_tokens, "spans and decode tokens do not cover the step");
    std::vector<bool> is_adapted(num_tokens);
    for (const auto& [adapter, rows] : adapters) {
        require(adapter && adapter->model_id() == model.id(), "an adapter of another model");
        for (size_t i = 0; i < rows.shape(0); i++) {
            require(rows(i) >= 0 && rows(i) < num_tokens && !is_adapted[rows(i)], "an adapter's row is wrong");
            is_adapted[rows(i)] = true;
        }
        input.adapters.push_back({adapter, rows.data(), int(rows.shape(0))});
    }
    nb::gil_scoped_release release;
    model.forward(input);
    return std::find(input.likeliest, input.likeliest + logit_rows.size(), -1) == input.likeliest + logit_rows.size();
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Cairn's decoder on the CPU; see native/ for how it works and cairn.engine.native_runner for its use.";
    // A process may end while a thread or a cache still holds a network: nothing that its user should read of.
    nb::set_leak_warnings(false);

    nb::class_<Matrix>(m, "Matrix")
        .def_ro("num_rows", &Matrix::num_rows)
        .def_ro("num_inputs", &Matrix::num_inputs)
        .def_prop_ro("num_bytes", &Matrix::num_bytes)
        .def_prop_ro("format", [](const Matrix& matrix) { return name_of(matrix.format); })
        .def_prop_ro(
            "data",
            [](const Matrix& matrix) {
                return Bytes(matrix.data.data(), {matrix.data.size()}, nb::handle());
            },
            nb::rv_policy::reference_internal)
        .def_ro("row_scales", &Matrix::row_scales)
        .def("unpack", &unpack_array, nb::arg("out"));
    nb::class_<Norm>(m, "Norm").def(nb::init<>()).def_rw("weight", &Norm::weight).def_rw("bias", &Norm::bias);
    nb::class_<Rope>(m, "Rope")
        .def(nb::init<>())
        .def_rw("rotary_dim", &Rope::rotary_dim)
        .def_rw("factor", &Rope::factor)
        .def_rw("frequencies", &Rope::frequencies);
    nb::class_<Mlp>(m, "Mlp")
        .def(nb::init<>())
        .def_rw("inner", &Mlp::inner)
        .def_rw("down", &Mlp::down)
        .def_rw("inner_bias", &Mlp::inner_bias)
        .def_rw("down_bias", &Mlp::down_bias);
    nb::class_<Experts>(m, "Experts")
        .def(nb::init<>())
        .def_rw("num_per_token", &Experts::num_per_token)
        .def_rw("normalise", &Experts::normalise)
        .def_rw("router", &Experts::router)
        .def_rw("experts", &Experts::experts)
        .def_rw("shared", &Experts::shared)
        .def_rw("shared_gate", &Experts::shared_gate);
    nb::class_<Layer>(m, "Layer")
        .def(nb::init<>())
        .def_rw("attention_norm", &Layer::attention_norm)
        .def_rw("attention_post_norm", &Layer::attention_post_norm)
        .def_rw("mlp_norm", &Layer::mlp_norm)
        .def_rw("mlp_post_norm", &Layer::mlp_post_norm)
        .def_rw("q_norm", &Layer::q_norm)
        .def_rw("k_norm", &Layer::k_norm)
        .def_rw("qkv", &Layer::qkv)
        .def_rw("qkv_bias", &Layer::qkv_bias)
        .def_rw("output", &Layer::output)
        .def_rw("output_bias", &Layer::output_bias)
        .def_rw("mlp", &Layer::mlp)
        .def_rw("experts", &Layer::experts)
        .def_rw("rope", &Layer::rope)
        .def_rw("scale", &Layer::scale)
        .def_rw("window", &Layer::window)
        .def_rw("softcap", &Layer::softcap);
    nb::class_<ModelSpec>(m, "ModelSpec")
        .def(nb::init<>())
        .def_rw("vocab_size", &ModelSpec::vocab_size)
        .def_rw("hidden_size", &ModelSpec::hidden_size)
        .def_rw("num_heads", &ModelSpec::num_heads)
        .def_rw("num_kv_heads", &ModelSpec::num_kv_heads)
        .def_rw("head_dim", &ModelSpec::head_dim)
        .def_rw("norm_eps", &ModelSpec::norm_eps)
        .def_rw("embedding_scale", &ModelSpec::embedding_scale)
        .def_rw("logit_softcap", &ModelSpec::logit_softcap)
        .def_rw("norms_whole_projection", &ModelSpec::norms_whole_projection)
        .def_rw("gated", &ModelSpec::gated)
        .def_prop_rw(
            "activation", [](const ModelSpec& spec) { return int(spec.activation); },
            [](ModelSpec& spec, const std::string& name) { spec.activation = activation_named(name); })
        .def_rw("embedding", &ModelSpec::embedding)
        .def_rw("position_embedding", &ModelSpec::position_embedding)
        .def_rw("head", &ModelSpec::head)
        .def_rw("norm", &ModelSpec::norm)
        .def_rw("ropes", &ModelSpec::ropes)
        .def_rw("layers", &ModelSpec::layers);
    nb::class_<Model>(m, "Model")
        .def(
            "__init__",
            [](Model* self, const ModelSpec& spec, int num_threads, bool pin, const std::string& kernels) {
                check_spec(spec);
                require(num_threads > 0 && num_threads <= 256, "num_threads must be 1 to 256");
                new (self) Model(spec, num_threads, pin, kernels);
            },
            nb::arg("spec"), nb::kw_only(), nb::arg("num_threads"), nb::arg("pin"), nb::arg("kernels"))
        .def_prop_ro("kernels", &Model::kernels_name)
        .def_prop_ro("num_threads", &Model::num_threads)
        .def_prop_ro("num_bytes", &Model::num_bytes)
        .def("bytes_per_block",
             [](const Model& model, int block_size, const std::string& type) {
                 require(0 < block_size && block_size <= kMostBlockSize, "block_size must be 1 to 4096");
                 return model.bytes_per_block(block_size, cache_named(type));
             })
        .def("allocate_cache",
             [](Model& model, int num_blocks, int block_size, const std::string& type) {
                 require(num_blocks > 0, "num_blocks must be above 0");
                 require(0 < block_size && block_size <= kMostBlockSize, "block_size must be 1 to 4096");
                 model.allocate_cache(num_blocks, block_size, cache_named(type));
             })
        .def("clear_blocks",
             [](Model& model, const std::vector<int64_t>& blocks) {
                 for (int64_t block : blocks) require(block >= 0 && block < model.num_blocks(), "no such block");
                 model.clear_blocks(blocks);
             })
        .def("copy_blocks",
             [](Model& model, const std::vector<std::pair<int64_t, int64_t>>& pairs) {
                 for (const auto& [from, to] : pairs) {
                     require(from >= 0 && from < model.num_blocks() && to >= 0 && to < model.num_blocks(), "no such block");
                 }
                 model.copy_blocks(pairs);
             })
        .def("forward", &forward, nb::arg("token_ids"), nb::arg("positions"), nb::arg("slots"), nb::arg("tables"),
             nb::arg("spans"), nb::arg("logit_rows"), nb::arg("logits"), nb::arg("likeliest"), nb::arg("adapters"));

    bind_encoder(m);
    bind_adapters(m);
    bind_graph(m);
    bind_words(m);

    m.def("pack", &pack_array, nb::arg("values"), nb::arg("format"));
    m.def(
        "map_matrix",
        [](const std::string& path, size_t offset, int64_t rows, int64_t inputs, const std::string& format,
           std::vector<float> scales) -> Weights {
            return std::make_shared<Matrix>(
                map_matrix(path, offset, rows, inputs, format_named(format), std::move(scales)));
        },
        nb::arg("path"), nb::arg("offset"), nb::arg("rows"), nb::arg("inputs"), nb::arg("format"),
        nb::arg("scales"));
    m.def("multiply", &multiply, nb::arg("matrix"), nb::arg("x"), nb::arg("out"), nb::arg("kernels") = "");
    m.def("runnable_kernels", &runnable_kernels);
    m.def("usable_cores", &usable_cores);
}
