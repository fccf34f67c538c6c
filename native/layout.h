// How weights and activations lie in memory.
//
// A weight matrix W [N outputs, K inputs] is cut into tiles of 16 rows; the rows of a tile lie in the
// lanes of the vectors, so one output is one lane, summed over its inputs in order, whatever else is
// computed beside it. That alone makes every result independent of the batch and of the threads.
// N is padded to a multiple of 16 and K to a multiple of 32, with zeros.
//
// A tile is a run of K / 32 groups; what a group of 32 inputs x 16 rows looks like:
//
//   float32   2048 B   input 0: row 0 .. row 15 | input 1: row 0 .. row 15 | ...
//   bfloat16  1024 B   inputs 0, 1: (row 0: i0 i1) .. (row 15: i0 i1) | inputs 2, 3: ... | ...
//   int8       512 B   8 lines of 64 B; line c: (row 0: inputs 4c .. 4c+3) .. (row 15: ...)
//   int4       288 B   4 lines of 64 B; line c, low nibbles:  (row 0: inputs 4c .. 4c+3) .. (row 15: ...)
//                                       line c, high nibbles: the same for inputs 16+4c .. 16+4c+3;
//                      then 16 half-precision scales, one a row
//
// int4: w = scale * (nibble - 8), scale = (the value of largest magnitude) / -8, a scale for 32 inputs.
// int8: w = scale * byte, scale = largest magnitude / 127, a float a row, kept apart in `row_scales`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace cairn {

constexpr int kTileRows = 16;
constexpr int kGroup = 32;
constexpr size_t kPage = 4096;

enum class Format { float32, bfloat16, int8, int4 };

constexpr size_t group_bytes(Format format) {
    switch (format) {
        case Format::float32: return 2048;
        case Format::bfloat16: return 1024;
        case Format::int8: return 512;
        case Format::int4: return 288;
    }
    return 0;
}

// Memory that begins with a cache line: what is read 64 bytes at a time is then read from one line, not from two.
template <typename T>
struct LineAllocator {
    using value_type = T;
    static constexpr std::align_val_t kLine{64};

    LineAllocator() = default;
    template <typename U>
    LineAllocator(const LineAllocator<U>&) {}
    T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
    void deallocate(T* from, size_t) { ::operator delete(from, kLine); }
    bool operator==(const LineAllocator&) const = default;
};
template <typename T>
using Lines = std::vector<T, LineAllocator<T>>;

// Room for `size` elements; never less than before.
template <typename Vector>
void grow(Vector& vector, size_t size) {
    if (vector.size() < size) vector.resize(size);
}

constexpr int padded(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }

class Region;

// Memory on a page boundary: zeroed, its pages real when first written to; or a part of a file, read only,
// its pages read when first looked at. `offset` is a multiple of kPage, and the file holds all of it.
//
// Zeroed buffers are cut one after another from regions of huge pages: of a model with small matrices the
// processor would otherwise look up a page for each 4 KB that it reads, which halves what memory gives.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t num_bytes);
    Buffer(const std::string& path, size_t offset, size_t num_bytes);
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer();
    uint8_t* data() const { return data_; }
    size_t size() const { return size_; }

  private:
    std::shared_ptr<Region> region_;  // null: a part of a file
    uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

// A packed weight matrix.
struct Matrix {
    Format format = Format::float32;
    int num_rows = 0;
    int num_inputs = 0;
    Buffer data;
    std::vector<float> row_scales;

    int width() const { return padded(num_inputs, kGroup); }
    int num_groups() const { return width() / kGroup; }
    int num_tiles() const { return padded(num_rows, kTileRows) / kTileRows; }
    size_t tile_bytes() const { return group_bytes(format) * num_groups(); }
    const uint8_t* tile(int index) const { return data.data() + tile_bytes() * index; }
    size_t num_bytes() const { return data.size() + row_scales.size() * sizeof(float); }
};

// Rows or inputs of a matrix: more is refused, so that no size computed from them overflows.
constexpr int64_t kMostRows = 1 << 28;

// Pack `values` [num_rows, num_inputs] (rows contiguous).
Matrix pack(const float* values, int64_t num_rows, int64_t num_inputs, Format format);

// A matrix that was packed before: `matrix.data` as it lies in a file, the scales beside it.
Matrix map_matrix(const std::string& path, size_t offset, int64_t num_rows, int64_t num_inputs, Format format,
                  std::vector<float> row_scales);

// One row as floats, `out` [num_inputs]: an embedding look-up, and the tests' way back.
void unpack_row(const Matrix& matrix, int row, float* out);

// Activations [rows, width] in the form that a matrix of some format is multiplied with:
//   float32, bfloat16: `values`, floats; where the kernels multiply in bfloat16, for that format `rounded` instead
//   int8: `bytes`, 8-bit numbers, with a scale for each group of 32; where the kernels take the weights'
//         bytes as w + 128, also `starts`: -128 * (sum of the numbers) for each group
//   int4: the same, with -8 * (sum of the numbers)
// Scales and starts of a group lie side by side, [groups, rows]; behind them is room for a kernel that reads 16 rows.
struct Activations {
    Format format = Format::float32;
    int num_rows = 0;
    int width = 0;
    Lines<float> values;
    Lines<uint16_t> rounded;
    Lines<int8_t> bytes;
    Lines<float> scales;
    Lines<int32_t> starts;

    int num_groups() const { return width / kGroup; }
    size_t slot(int row, int group) const { return size_t(group) * num_rows + row; }
    // Make room for `num_rows` rows of `inputs` numbers for a matrix of `format`.
    void shape(int rows, int inputs, Format format);
};

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);
inline float bfloat16_to_float(uint16_t value) {
    const uint32_t bits = uint32_t(value) << 16;
    float out;
    __builtin_memcpy(&out, &bits, 4);
    return out;
}
// To the nearest, ties to even; NaN stays NaN.
inline uint16_t float_to_bfloat16(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t((bits >> 16) | 0x40);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace cairn
