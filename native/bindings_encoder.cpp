// The encoder as Python sees it; see bindings.cpp.
#include "bindings.h"
#include "encoder.h"

namespace {

constexpr int kMostHidden = 1 << 16;  // so that no width computed from it overflows

Vector flat(const Floats& values) { return {values.data(), values.data() + values.size()}; }

void check_dense(const Weights& matrix, const Vector& bias, int inputs) {
    check_matrix(matrix, matrix->num_rows, inputs);
    require(matrix->format == Format::float32, "the head is float32");
    require(bias.empty() || int(bias.size()) == matrix->num_rows, "a bias does not fit");
}

void check_layer(const EncoderSpec& spec, const EncoderLayer& layer, Format format) {
    const int size = spec.hidden_size, qkv_rows = 3 * spec.num_heads * padded(spec.head_dim(), kTileRows);
    check_matrix(layer.qkv, qkv_rows, size);
    check_matrix(layer.output, size, size);
    require(layer.mlp.down && layer.mlp.inner, "an MLP lacks a matrix");
    check_matrix(layer.mlp.down, size, layer.mlp.down->num_inputs);
    check_matrix(layer.mlp.inner, layer.mlp.down->width(), size);
    for (const Weights& matrix : {layer.qkv, layer.output, layer.mlp.inner, layer.mlp.down}) {
        require(matrix->format == format, "one format for all layers");
    }
    require(int(layer.qkv_bias.size()) == qkv_rows && int(layer.output_bias.size()) == size, "a bias does not fit");
    require(int(layer.mlp.inner_bias.size()) == layer.mlp.inner->num_rows, "a bias does not fit");
    require(int(layer.mlp.down_bias.size()) == size, "a bias does not fit");
    for (const Norm* norm : {&layer.attention_norm, &layer.mlp_norm}) {
        require(norm->is_there(), "a norm is missing");
        check_norm(*norm, size);
    }
}

// Nothing is read out of bounds later if this passes.
void check_spec(const EncoderSpec& spec) {
    const int size = spec.hidden_size;
    require(spec.vocab_size > 0 && size > 0 && spec.num_heads > 0 && size % spec.num_heads == 0, "empty model");
    require(size <= kMostHidden, "a hidden size beyond what is computed");
    require(spec.head_dim() % 8 == 0, "the heads' size must be a multiple of 8");
    check_matrix(spec.embedding, spec.vocab_size, size);
    require(!spec.positions.empty() && spec.positions.size() % size == 0, "the positions do not fit");
    require(spec.types.size() % size == 0, "the segments do not fit");
    require(spec.norm.is_there(), "no norm after the embedding");
    check_norm(spec.norm, size);
    require(!spec.layers.empty() && spec.layers[0].qkv, "no layers");
    for (const EncoderLayer& layer : spec.layers) check_layer(spec, layer, spec.layers[0].qkv->format);
    const EncoderHead& head = spec.head;
    if (head.dense) check_dense(head.dense, head.dense_bias, size);
    if (head.output) check_dense(head.output, head.output_bias, head.dense ? head.dense->num_rows : size);
}

void forward(Encoder& encoder, const Ids& token_ids, const Ids& types, const Ids& bounds, const FloatsOut& out) {
    const EncoderSpec& spec = encoder.spec();
    const int64_t num_tokens = int64_t(token_ids.shape(0)), num_texts = int64_t(bounds.shape(0)) - 1;
    require(num_texts >= 0 && bounds(0) == 0 && bounds(num_texts) == num_tokens, "the bounds do not cover the tokens");
    for (int64_t text = 0; text < num_texts; text++) {
        const int64_t length = bounds(text + 1) - bounds(text);
        require(length > 0 && length <= spec.max_position(), "a text is empty or too long");
    }
    require(types.shape(0) == token_ids.shape(0), "lengths differ");
    for (int64_t t = 0; t < num_tokens; t++) {
        require(token_ids(t) >= 0 && token_ids(t) < spec.vocab_size, "a token id is out of range");
        require(types(t) >= 0 && (types(t) < spec.num_types() || types(t) == 0), "a segment is out of range");
    }
    const int64_t rows = spec.head.pooling == Pooling::tokens ? num_tokens : num_texts;
    require(int64_t(out.shape(0)) == rows && int(out.shape(1)) == spec.out_width(), "the output's shape");
    const EncoderInput input{int(num_texts), token_ids.data(), types.data(), bounds.data(), out.data()};
    nb::gil_scoped_release release;
    encoder.forward(input);
}

}  // namespace

void bind_encoder(nb::module_& m) {
    nb::class_<EncoderLayer>(m, "EncoderLayer")
        .def(nb::init<>())
        .def_rw("qkv", &EncoderLayer::qkv)
        .def_rw("qkv_bias", &EncoderLayer::qkv_bias)
        .def_rw("output", &EncoderLayer::output)
        .def_rw("output_bias", &EncoderLayer::output_bias)
        .def_rw("attention_norm", &EncoderLayer::attention_norm)
        .def_rw("mlp", &EncoderLayer::mlp)
        .def_rw("mlp_norm", &EncoderLayer::mlp_norm);
    nb::class_<EncoderHead>(m, "EncoderHead")
        .def(nb::init<>())
        .def_prop_rw(
            "pooling", [](const EncoderHead& head) { return int(head.pooling); },
            [](EncoderHead& head, const std::string& name) {
                head.pooling = named<Pooling>(name, {{"tokens", Pooling::tokens}, {"first", Pooling::first},
                                                     {"mean", Pooling::mean}, {"max", Pooling::max}});
            })
        .def_prop_rw(
            "activation", [](const EncoderHead& head) { return int(head.activation); },
            [](EncoderHead& head, const std::string& name) {
                head.activation = named<HeadActivation>(name, {{"none", HeadActivation::none},
                                                               {"tanh", HeadActivation::tanh},
                                                               {"relu", HeadActivation::relu}});
            })
        .def_rw("dense", &EncoderHead::dense)
        .def_rw("dense_bias", &EncoderHead::dense_bias)
        .def_rw("output", &EncoderHead::output)
        .def_rw("output_bias", &EncoderHead::output_bias)
        .def_rw("normalise", &EncoderHead::normalise);
    nb::class_<EncoderSpec>(m, "EncoderSpec")
        .def(nb::init<>())
        .def_rw("vocab_size", &EncoderSpec::vocab_size)
        .def_rw("hidden_size", &EncoderSpec::hidden_size)
        .def_rw("num_heads", &EncoderSpec::num_heads)
        .def_rw("norm_eps", &EncoderSpec::norm_eps)
        .def_prop_rw(
            "activation", [](const EncoderSpec& spec) { return int(spec.activation); },
            [](EncoderSpec& spec, const std::string& name) { spec.activation = activation_named(name); })
        .def_rw("embedding", &EncoderSpec::embedding)
        .def("set_positions", [](EncoderSpec& spec, const Floats& values) { spec.positions = flat(values); })
        .def("set_types", [](EncoderSpec& spec, const Floats& values) { spec.types = flat(values); })
        .def_rw("norm", &EncoderSpec::norm)
        .def_rw("layers", &EncoderSpec::layers)
        .def_rw("head", &EncoderSpec::head);
    nb::class_<Encoder>(m, "Encoder")
        .def(
            "__init__",
            [](Encoder* self, const EncoderSpec& spec, int num_threads, bool pin, const std::string& kernels) {
                check_spec(spec);
                require(num_threads > 0 && num_threads <= 256, "num_threads must be 1 to 256");
                new (self) Encoder(spec, num_threads, pin, kernels);
            },
            nb::arg("spec"), nb::kw_only(), nb::arg("num_threads"), nb::arg("pin"), nb::arg("kernels"))
        .def_prop_ro("kernels", &Encoder::kernels_name)
        .def_prop_ro("num_threads", &Encoder::num_threads)
        .def_prop_ro("num_bytes", &Encoder::num_bytes)
        .def("forward", &forward, nb::arg("token_ids"), nb::arg("types"), nb::arg("bounds"), nb::arg("out"));
}
