// Packing weights into tiles, and reading single rows back. See layout.h for the drawings.
#include "layout.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace cairn {

// Address space on a huge page's boundary, handed out from front to back.
class Region {
  public:
    explicit Region(size_t num_bytes) : size_(num_bytes + kHugePage) {
        void* mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) throw std::bad_alloc();
        mapped_ = static_cast<uint8_t*>(mapped);
        next_ = mapped_ + (kHugePage - reinterpret_cast<uintptr_t>(mapped_) % kHugePage) % kHugePage;
        madvise(mapped_, size_, MADV_HUGEPAGE);
    }
    Region(const Region&) = delete;
    ~Region() { munmap(mapped_, size_); }

    // `num_bytes` never handed out before; null when there is no room for them.
    uint8_t* take(size_t num_bytes) {
        if (num_bytes > size_t(mapped_ + size_ - next_)) return nullptr;
        return std::exchange(next_, next_ + num_bytes);
    }

  private:
    static constexpr size_t kHugePage = size_t(2) << 20;
    size_t size_;
    uint8_t* mapped_;
    uint8_t* next_;
};

namespace {

constexpr size_t kRegion = size_t(64) << 20;

size_t whole_pages(size_t num_bytes) { return (num_bytes + kPage - 1) / kPage * kPage; }

#if defined(__SANITIZE_ADDRESS__)
// AddressSanitizer does not know where a mapping ends: what follows a buffer is forbidden by hand.
constexpr size_t kFence = kPage;
void set_fence(uint8_t* data, size_t num_bytes) { __asan_poison_memory_region(data + num_bytes, kFence); }
void drop_fence(uint8_t* data, size_t num_bytes) { __asan_unpoison_memory_region(data + num_bytes, kFence); }
#else
constexpr size_t kFence = 0;
void set_fence(uint8_t*, size_t) {}
void drop_fence(uint8_t*, size_t) {}
#endif

}  // namespace

Buffer::Buffer(size_t num_bytes) : size_(num_bytes) {
    static std::mutex mutex;
    static std::weak_ptr<Region> latest;
    if (num_bytes == 0) return;
    const std::lock_guard lock(mutex);
    const size_t taken = whole_pages(num_bytes) + kFence;
    region_ = latest.lock();
    if (region_) data_ = region_->take(taken);
    if (!data_) {
        region_ = std::make_shared<Region>(std::max(taken, kRegion));
        data_ = region_->take(taken);
        latest = region_;
    }
    set_fence(data_, size_);
}

Buffer::Buffer(const std::string& path, size_t offset, size_t num_bytes) : size_(num_bytes) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) throw std::system_error(errno, std::generic_category(), path);
    struct stat found {};
    const bool is_whole = fstat(file, &found) == 0 && offset % kPage == 0 && offset <= size_t(found.st_size) &&
                          num_bytes <= size_t(found.st_size) - offset;
    void* data = is_whole ? mmap(nullptr, num_bytes + kFence, PROT_READ, MAP_PRIVATE, file, off_t(offset))
                          : MAP_FAILED;
    close(file);
    if (!is_whole) throw std::invalid_argument(path + " does not hold the matrix");
    if (data == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<uint8_t*>(data);
    set_fence(data_, size_);
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(region_, other.region_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

Buffer::~Buffer() {
    if (!data_) return;
    drop_fence(data_, size_);
    if (region_) {
        madvise(data_, whole_pages(size_), MADV_DONTNEED);  // what else lies in the region may live long
    } else {
        munmap(data_, size_ + kFence);
    }
}

float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 0x1f;
    const uint32_t fraction = half & 0x3ff;
    if (exponent == 0) {  // zero or subnormal
        const float value = std::ldexp(float(fraction), -24);
        return sign ? -value : value;
    }
    const uint32_t rebased = exponent == 0x1f ? 0xff : exponent + 112;
    const uint32_t bits = sign | rebased << 23 | fraction << 13;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

uint16_t float_to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint16_t sign = uint16_t((bits >> 16) & 0x8000);
    const float magnitude = std::fabs(value);
    if (!(magnitude < 65520.0f)) return sign | (std::isnan(value) ? 0x7e00 : 0x7c00);
    if (magnitude < 6.103515625e-05f) {  // subnormal: a multiple of 2^-24
        return sign | uint16_t(std::nearbyint(std::ldexp(magnitude, 24)));
    }
    bits &= 0x7fffffff;
    bits += 0xfff + ((bits >> 13) & 1);  // to the nearest, ties to even
    return sign | uint16_t((bits >> 13) - (112u << 10));
}

namespace {

// Where input `k` of a row of a tile lies within the tile, in elements.
size_t float32_index(int row, int k) { return size_t(k) * kTileRows + row; }
size_t bfloat16_index(int row, int k) { return size_t(k / 2) * 2 * kTileRows + row * 2 + k % 2; }
size_t int8_index(int row, int k) { return size_t(k / 4) * 4 * kTileRows + row * 4 + k % 4; }
// The byte of a group's nibbles; inputs 16 .. 31 are its high halves.
size_t int4_index(int row, int k) { return size_t(k % 16 / 4) * 4 * kTileRows + row * 4 + k % 4; }
constexpr size_t kInt4Scales = 256;
constexpr float kLargestHalf = 65504.0f;

void pack_int4_group(const float* values, int count, int row, uint8_t* group) {
    float extreme = 0.0f;
    for (int k = 0; k < count; k++) {
        if (std::fabs(values[k]) > std::fabs(extreme)) extreme = values[k];
    }
    const uint16_t half = float_to_half(std::clamp(extreme / -8.0f, -kLargestHalf, kLargestHalf));
    std::memcpy(group + kInt4Scales + 2 * row, &half, 2);
    const float scale = half_to_float(half);
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (int k = 0; k < kGroup; k++) {
        const float scaled = k < count ? values[k] * inverse : 0.0f;
        const int level = std::clamp(int(std::lrintf(scaled)) + 8, 0, 15);
        group[int4_index(row, k)] |= uint8_t(level << (k < 16 ? 0 : 4));
    }
}

void pack_int8_row(const float* values, int count, int row, uint8_t* tile, float& scale) {
    float largest = 0.0f;
    for (int k = 0; k < count; k++) largest = std::max(largest, std::fabs(values[k]));
    scale = largest / 127.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (int k = 0; k < count; k++) {
        const int level = std::clamp(int(std::lrintf(values[k] * inverse)), -127, 127);
        tile[int8_index(row, k)] = uint8_t(int8_t(level));
    }
}

Matrix shaped(int64_t num_rows, int64_t num_inputs, Format format) {
    const bool fits = 0 < num_rows && num_rows <= kMostRows && 0 < num_inputs && num_inputs <= kMostRows;
    if (!fits) {
        throw std::invalid_argument("a matrix of " + std::to_string(num_rows) + " rows of " +
                                    std::to_string(num_inputs) + ", allowed: 1 to " + std::to_string(kMostRows));
    }
    return {format, int(num_rows), int(num_inputs), {}, {}};
}

}  // namespace

Matrix pack(const float* values, int64_t num_rows, int64_t num_inputs, Format format) {
    Matrix matrix = shaped(num_rows, num_inputs, format);
    matrix.data = Buffer(matrix.tile_bytes() * matrix.num_tiles());
    if (format == Format::int8) matrix.row_scales.assign(size_t(matrix.num_tiles()) * kTileRows, 0.0f);
    for (int index = 0; index < matrix.num_rows; index++) {
        const float* from = values + size_t(index) * matrix.num_inputs;
        uint8_t* tile = matrix.data.data() + matrix.tile_bytes() * (index / kTileRows);
        const int row = index % kTileRows;
        if (format == Format::int8) {
            pack_int8_row(from, matrix.num_inputs, row, tile, matrix.row_scales[index]);
        } else if (format == Format::int4) {
            for (int k = 0; k < matrix.num_inputs; k += kGroup) {
                const int count = std::min(kGroup, matrix.num_inputs - k);
                pack_int4_group(from + k, count, row, tile + group_bytes(format) * (k / kGroup));
            }
        } else if (format == Format::bfloat16) {
            auto* to = reinterpret_cast<uint16_t*>(tile);
            for (int k = 0; k < matrix.num_inputs; k++) to[bfloat16_index(row, k)] = float_to_bfloat16(from[k]);
        } else {
            auto* to = reinterpret_cast<float*>(tile);
            for (int k = 0; k < matrix.num_inputs; k++) to[float32_index(row, k)] = from[k];
        }
    }
    return matrix;
}

Matrix map_matrix(const std::string& path, size_t offset, int64_t num_rows, int64_t num_inputs, Format format,
                  std::vector<float> row_scales) {
    Matrix matrix = shaped(num_rows, num_inputs, format);
    const size_t scales = format == Format::int8 ? size_t(matrix.num_tiles()) * kTileRows : 0;
    if (row_scales.size() != scales) throw std::invalid_argument("scales that do not fit the matrix");
    for (float scale : row_scales) {
        if (!std::isfinite(scale)) throw std::invalid_argument("a scale that is NaN or infinite");
    }
    matrix.row_scales = std::move(row_scales);
    matrix.data = Buffer(path, offset, matrix.tile_bytes() * matrix.num_tiles());
    // Weights stream past in order: read them ahead.
    madvise(matrix.data.data(), matrix.data.size(), MADV_WILLNEED);
    return matrix;
}

namespace {

// The inputs of a group of one row.
void unpack_group(const Matrix& matrix, int index, const uint8_t* group, int count, float* out) {
    const int row = index % kTileRows;
    switch (matrix.format) {
        case Format::float32: {
            const auto* values = reinterpret_cast<const float*>(group);
            for (int k = 0; k < count; k++) out[k] = values[float32_index(row, k)];
            break;
        }
        case Format::bfloat16: {
            const auto* values = reinterpret_cast<const uint16_t*>(group);
            for (int k = 0; k < count; k++) out[k] = bfloat16_to_float(values[bfloat16_index(row, k)]);
            break;
        }
        case Format::int8: {
            const float scale = matrix.row_scales[index];
            for (int k = 0; k < count; k++) out[k] = scale * float(int8_t(group[int8_index(row, k)]));
            break;
        }
        case Format::int4: {
            uint16_t half;
            std::memcpy(&half, group + kInt4Scales + 2 * row, 2);
            const float scale = half_to_float(half);
            for (int k = 0; k < count; k++) {
                const int level = group[int4_index(row, k)] >> (k < 16 ? 0 : 4) & 15;
                out[k] = scale * float(level - 8);
            }
        }
    }
}

}  // namespace

void unpack_row(const Matrix& matrix, int index, float* out) {
    const uint8_t* group = matrix.tile(index / kTileRows);
    for (int k = 0; k < matrix.num_inputs; k += kGroup, group += group_bytes(matrix.format)) {
        unpack_group(matrix, index, group, std::min(kGroup, matrix.num_inputs - k), out + k);
    }
}

void Activations::shape(int rows, int inputs, Format wanted) {
    format = wanted;
    num_rows = rows;
    width = padded(inputs, kGroup);
    const size_t count = size_t(num_rows) * width, num_scales = count / kGroup + kTileRows;
    if (format == Format::float32 || format == Format::bfloat16) grow(values, count);
    if (format == Format::bfloat16) grow(rounded, count);
    if (format == Format::int8 || format == Format::int4) {
        grow(bytes, count);
        grow(scales, num_scales);
        grow(starts, num_scales);
    }
}

}  // namespace cairn
