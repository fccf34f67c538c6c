// AMX's tile registers in plain code, step by step as Intel's manual defines them, for a test build alone
// (CAIRN_EMULATE_AVX512). Included by tiles.h within its namespace.

struct EmulatedTiles {
    TileShapes shapes;
    uint8_t lines[8][kTileLines][kLineBytes];
};
inline thread_local EmulatedTiles emulated;

inline void configure_tiles(const TileShapes& shapes) {
    emulated.shapes = shapes;
    std::memset(emulated.lines, 0, sizeof emulated.lines);
}
inline void release_tiles() { configure_tiles({}); }
inline void settled() {}

template <int tile>
void load_tile(const void* from, size_t stride) {
    for (int row = 0; row < kTileLines; row++) {
        uint8_t* line = emulated.lines[tile][row];
        std::memset(line, 0, kLineBytes);
        if (row >= emulated.shapes.rows[tile]) continue;
        std::memcpy(line, static_cast<const uint8_t*>(from) + row * stride, emulated.shapes.bytes[tile]);
    }
}
template <int tile>
void store_tile(void* to, size_t stride) {
    for (int row = 0; row < emulated.shapes.rows[tile]; row++) {
        std::memcpy(static_cast<uint8_t*>(to) + row * stride, emulated.lines[tile][row], emulated.shapes.bytes[tile]);
    }
}
template <int tile>
void store_tile(int32_t (&to)[kTileLines * 16]) {
    store_tile<tile>(static_cast<void*>(to), kLineBytes);
}
template <int tile>
void clear_tile() {
    std::memset(emulated.lines[tile], 0, sizeof emulated.lines[tile]);
}

// Element `index` of a line, of its 32 bits the part `part` of that size.
template <typename T>
T emulated_element(const uint8_t* line, int index, int part = 0) {
    T out;
    std::memcpy(&out, line + 4 * index + sizeof(T) * part, sizeof(T));
    return out;
}
inline float emulated_flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

template <int sums, int a, int b>
void multiply_pairs() {
    for (int m = 0; m < emulated.shapes.rows[sums]; m++) {
        for (int n = 0; n < emulated.shapes.bytes[sums] / 4; n++) {
            float parts[2] = {0.0f, 0.0f};
            for (int k = 0; k < emulated.shapes.bytes[a] / 4; k++) {
                for (int part = 0; part < 2; part++) {
                    const auto number = [&](const uint8_t* line, int index) {
                        return emulated_flushed(bfloat16_to_float(emulated_element<uint16_t>(line, index, part)));
                    };
                    const float x = number(emulated.lines[a][m], k), w = number(emulated.lines[b][k], n);
                    parts[part] = emulated_flushed(std::fmaf(x, w, parts[part]));
                }
            }
            const float before = emulated_flushed(emulated_element<float>(emulated.lines[sums][m], n));
            const float sum = emulated_flushed(before + emulated_flushed(parts[0] + parts[1]));
            std::memcpy(emulated.lines[sums][m] + 4 * n, &sum, 4);
        }
    }
}

template <int sums, int a, int b>
void multiply_bytes() {
    for (int m = 0; m < emulated.shapes.rows[sums]; m++) {
        for (int n = 0; n < emulated.shapes.bytes[sums] / 4; n++) {
            int32_t sum = emulated_element<int32_t>(emulated.lines[sums][m], n);
            for (int k = 0; k < emulated.shapes.bytes[a] / 4; k++) {
                for (int part = 0; part < 4; part++) {
                    sum += int32_t(emulated_element<int8_t>(emulated.lines[a][m], k, part)) *
                           emulated_element<int8_t>(emulated.lines[b][k], n, part);
                }
            }
            std::memcpy(emulated.lines[sums][m] + 4 * n, &sum, 4);
        }
    }
}
